"""Opaque cursors over time-ordered ids."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from app.errors import BadRequestError, FieldError, NotFoundError
from app.infra.ids import InvalidIdError, Kind, from_wire
from app.web.wire import Answer

T = TypeVar("T")


class Page(Answer, Generic[T]):
    """One page of a list; `next_cursor` is there exactly while `has_more`."""

    data: list[T]
    has_more: bool
    next_cursor: str | None


def encode_cursor(last: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str | None) -> uuid.UUID | None:
    """The id a page ended with.

    Raises:
        BadRequestError: the text is no cursor of ours.
    """
    if cursor is None:
        return None
    try:
        return uuid.UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(
            "cursor: not a cursor of this list",
            code="bad_cursor",
            errors=[FieldError("cursor", "not a cursor of this list", "query")],
        ) from error


def make_page(
    rows: Sequence[Any], *, limit: int, key: Callable[[Any], uuid.UUID], show: Callable[[Any], T]
) -> Page[T]:
    """A page from up to limit + 1 rows: the extra one only tells that there is more."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(
        data=[show(row) for row in shown],
        has_more=more,
        next_cursor=encode_cursor(key(shown[-1])) if more else None,
    )


def path_id(kind: Kind, text: str) -> uuid.UUID:
    """The id in a path; what can't be an id can't be found either.

    Raises:
        NotFoundError: not an id of that kind.
    """
    try:
        return from_wire(kind, text)
    except InvalidIdError as error:
        raise NotFoundError(f"no such {kind.name.lower().replace('_', ' ')}") from error
