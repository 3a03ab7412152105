"""What all wire models share: strict types, no unknown fields, no text Postgres can't hold."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.domain.storable import unstorable

MAX_ID_LENGTH = 100
_MAX_DEPTH = 50
_MAX_FIELDS = 100
_MAX_LOOKED_AT = 500
# the escape of NUL, not that of a backslash before the letters u0000
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


class Wire(BaseModel):
    """A request: what is not named is refused, `false` is no integer, NaN is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _not_very_many_fields(cls, data: Any) -> Any:
        # each unknown one would become an error of a kilobyte: 2 GB for a body of 14 MB
        if isinstance(data, dict) and len(data) > _MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "has too many fields")
        return data


class Answer(BaseModel):
    """A response."""

    model_config = ConfigDict(frozen=True)


def example(**fields: Any) -> ConfigDict:
    """The example that the OpenAPI document shows of a model."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def storable(value: str) -> str:
    """The text, if PostgreSQL can store it.

    Raises:
        PydanticCustomError: it holds NUL or a lone surrogate.
    """
    fault = unstorable(value)
    if fault is not None:
        raise PydanticCustomError("unstorable", "{fault}", {"fault": fault})
    return value


def storable_json(value: Any) -> Any:
    """A JSON value, if PostgreSQL can store it; names the place where it can't.

    Looked through at the speed of C: a sender could fill a body with millions of values.

    Raises:
        PydanticCustomError: NUL, a lone surrogate, NaN or an infinity, or nesting beyond 50.
    """
    if _is_deep(value):
        raise PydanticCustomError("too_deep", "is nested more than {n} deep", {"n": _MAX_DEPTH})
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except ValueError:
        sound = False
    else:
        sound = "\\u0000" not in text or not _NUL.search(text)
    if not sound:
        fault = _find_fault(value)
        raise PydanticCustomError("unstorable", "{fault}", {"fault": fault})
    return value


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _find_fault(value: Any) -> str:
    """The first fault of a value that has one, named if it is among the first _MAX_LOOKED_AT."""
    for place, each in itertools.islice(_parts(value, ""), _MAX_LOOKED_AT):
        if isinstance(each, str):
            fault = unstorable(each)
        else:
            finite = not isinstance(each, float) or math.isfinite(each)
            fault = None if finite else "is not a finite number"
        if fault is not None:
            return f"{place} {fault}"
    return "has a NUL character, a lone surrogate or a number that is not finite"


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every key, string and number in a JSON value with the words that name its place."""
    place = path[:200] or "the top"
    if isinstance(value, dict):
        for key in value:
            yield f"a key at {place}", key
    inner: Iterable[tuple[Any, Any]]
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from _parts(each, f"{path}/{key}")
    else:
        yield place, value


def _storable_value(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else storable_json(value)


def _written_out(value: Any) -> Any:
    if not (isinstance(value, str) and _MOMENT.match(value)):
        raise PydanticCustomError("moment", "must be a time like 2030-01-31T12:00:00Z")
    return value


def _in_range(value: datetime) -> datetime:
    # PostgreSQL keeps more years than Python can read back
    if not 1970 <= value.year <= 9998:
        raise PydanticCustomError("moment", "must be between the years 1970 and 9998")
    return value


# Bounds of length stand before it: after it they would be no part of the documented schema.
Storable = AfterValidator(storable)
Text = Annotated[str, Storable]
Name = Annotated[str, Field(min_length=1, max_length=200), Storable]
WireId = Annotated[str, Field(max_length=MAX_ID_LENGTH)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_written_out), AfterValidator(_in_range)
]
JsonValue = Annotated[Any, AfterValidator(_storable_value)]
JsonObject = Annotated[dict[str, Any], AfterValidator(storable_json)]
