"""The values of fields: checked, spelled one way, and compared."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import date
from typing import Any, Final

from app.domain.kinds.base import ValueFaultError
from app.domain.kinds.closed import listed
from app.domain.kinds.fields.definition import Field, Scalar
from app.domain.storable import unstorable

MAX_ITEMS: Final = 1_000
MAX_CHARACTERS: Final = 20_000
MAX_TOGETHER: Final = 1_000_000
"""Characters of all strings of a value."""
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXACT: Final = 2**53  # up to here each whole number is one float, and they can be told apart


def checked(field: Field, value: Any, *, pointer: str) -> Any:
    """The value of a field as it is stored: a choice as the schema spells it, 5.0 as 5.

    Raises:
        ValueFaultError: it is none; its pointer begins with `pointer`.
    """
    if value is None and field.nullable:
        return None
    if not field.is_list:
        return _checked(field.of, value, pointer)
    if not isinstance(value, list):
        raise ValueFaultError(pointer, "must be a list")
    if len(value) > MAX_ITEMS:
        raise ValueFaultError(pointer, f"must have at most {MAX_ITEMS} items")
    return [_checked(field.of, each, f"{pointer}/{index}") for index, each in enumerate(value)]


def characters(value: Any) -> int:
    """How many characters the strings of a field's value have."""
    if isinstance(value, list):
        return sum(map(characters, value))
    return len(value) if isinstance(value, str) else 0


def comparable(value: Any) -> Any:
    """A form of a field's value that is equal where two values say the same.

    Texts by NFC without the white space around them, numbers by value, null as itself; lists as
    the same items as often, in any order.
    """
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value).strip()
    return sorted(map(comparable, value)) if isinstance(value, list) else value


def _checked(of: Scalar, value: Any, pointer: str) -> Any:
    if of.type == "boolean":
        if not isinstance(value, bool):
            raise ValueFaultError(pointer, "must be true or false")
        return value
    if of.type in ("number", "integer"):
        return _number(value, pointer, whole=of.type == "integer")
    if not isinstance(value, str):
        raise ValueFaultError(pointer, "must be a string")
    if of.type == "date":
        return _date(value, pointer)
    if of.enum is not None:
        label = of.enum.parse(value)
        if label is None:
            raise ValueFaultError(pointer, f"must be one of {listed(of.enum.names)}")
        return label.name
    if len(value) > MAX_CHARACTERS:
        raise ValueFaultError(pointer, f"must have at most {MAX_CHARACTERS} characters")
    if fault := unstorable(value):
        raise ValueFaultError(pointer, fault)
    return value


def _number(value: Any, pointer: str, *, whole: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueFaultError(pointer, "must be a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        finite = False
    if not finite:
        raise ValueFaultError(pointer, "must be a finite number, of at most about 1.8e308")
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if whole and isinstance(value, float):
        raise ValueFaultError(pointer, "must be a whole number")
    return value


def _date(value: str, pointer: str) -> str:
    try:
        # fromisoformat takes more forms than the one that is asked for
        if _DATE.fullmatch(value) and date.fromisoformat(value):
            return value
    except ValueError:
        pass
    raise ValueFaultError(pointer, "must be a date of the calendar, as YYYY-MM-DD")
