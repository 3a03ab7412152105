"""Ids: UUIDv7 in the database, TypeID (prefix + base32) on the wire, time-ordered in both."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import StrEnum

import uuid_utils
from typeid.codecs.base32 import decode, encode


class Kind(StrEnum):
    """The prefix of each kind of thing."""

    PROJECT = "prj"
    LABEL_SCHEMA = "sch"
    LABELER = "lbr"
    POLICY = "pol"
    ITEM = "itm"
    PREDICTION = "prd"
    ASSIGNMENT = "asn"
    REVIEW = "rev"
    FINAL_LABEL = "fin"
    EVENT = "evt"
    API_KEY = "key"
    REQUEST = "req"


class InvalidIdError(ValueError):
    """The text is no identifier of the wanted kind."""


def new_id() -> uuid.UUID:
    """A fresh UUIDv7; later ones sort after earlier ones of the same process."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


def to_wire(kind: Kind, value: uuid.UUID) -> str:
    """The TypeID of a stored id: `itm_01k…`."""
    # the library's own codec: its TypeID would check our prefix again each time, ten times as long
    return f"{kind.value}_{encode(value.bytes)}"


def from_wire(kind: Kind, text: str) -> uuid.UUID:
    """The stored id of a TypeID.

    Raises:
        InvalidIdError: not a TypeID, or one of another kind.
    """
    prefix, suffix = f"{kind.value}_", text[len(kind.value) + 1 :]
    try:
        # 26 characters hold 130 bits: with the first above 7 it is more than an id has, and the
        # codec would drop what does not fit
        if text.startswith(prefix) and suffix[:1] <= "7":
            return uuid.UUID(bytes=decode(suffix))
    except RuntimeError:
        pass  # the codec's word for a wrong length or character
    raise InvalidIdError(f"not an id of the form {prefix}…")


def uuid_array(values: Iterable[uuid.UUID]) -> str:
    """The text of a `uuid[]` parameter: the driver takes longer over a list of two than a query."""
    return "{" + ",".join(map(str, values)) + "}"
