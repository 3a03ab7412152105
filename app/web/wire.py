"""What all wire models share: strict types, no unknown fields, no text Postgres can't hold."""

from __future__ import annotations

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
)
from pydantic_core import PydanticCustomError

MAX_ID_LENGTH = 100
_MAX_DEPTH = 50
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


class Wire(BaseModel):
    """A request: what is not named is refused, `false` is no integer, NaN is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


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


def unstorable(value: str) -> str | None:
    """Why PostgreSQL can't store a text, None if it can."""
    nul = value.find("\0")
    if nul >= 0:
        return f"has a NUL character at position {nul}"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"has a lone surrogate at position {error.start}"
    return None


def storable_json(value: Any) -> Any:
    """A JSON value, if PostgreSQL can store it; names the place where it can't.

    Raises:
        PydanticCustomError: NUL, a lone surrogate, NaN or an infinity, or nesting beyond 50.
    """
    fault = _find_fault(value, "", 0)
    if fault is not None:
        raise PydanticCustomError("unstorable", "{fault}", {"fault": fault})
    return value


def _find_fault(value: Any, path: str, depth: int) -> str | None:
    place = path[:200] or "the top"
    if depth > _MAX_DEPTH:
        return f"is nested more than {_MAX_DEPTH} deep at {place}"
    if isinstance(value, str):
        fault = unstorable(value)
        return None if fault is None else f"{place} {fault}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place} is not a finite number"
    faults: Iterator[str]
    if isinstance(value, dict):
        faults = (f"a key at {place} {fault}" for fault in map(unstorable, value) if fault)
        inner: Iterable[tuple[object, Any]] = value.items()
    else:
        faults, inner = iter(()), enumerate(value if isinstance(value, list) else ())
    below = (_find_fault(each, f"{path}/{key}", depth + 1) for key, each in inner)
    return next(faults, None) or next((fault for fault in below if fault), None)


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
JsonObject = Annotated[dict[str, Any], AfterValidator(storable_json)]
