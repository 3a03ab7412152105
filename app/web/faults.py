"""What pydantic found wrong, in our words: which field, by its place in what the caller sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import FieldError

MAX_FAULTS = 50
_MAX_PART = 100
_SAID = {
    "extra_forbidden": "unknown field",
    "missing": "required",
    "union_tag_not_found": "required",
    "finite_number": "must be a finite number",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "string_unicode": "has a lone surrogate",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
# "Input should be …", "String should have …"
_SHOULD = re.compile(r"^(?:\w+ )?should ")


def pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) to a place.

    Names are the caller's: they are cut where they are long, and a lone surrogate is spelled out,
    since no answer could carry it.
    """
    return "".join(f"/{_escaped(part)}" for part in location)


def _escaped(part: str | int) -> str:
    text = str(part)
    text = text if len(text) <= _MAX_PART else f"{text[:_MAX_PART]}…"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("~", "~0").replace("/", "~1")


def field_errors(
    problems: Sequence[Mapping[str, Any]], *, body: Any, where: str | None = None, under: str = ""
) -> list[FieldError]:
    """Validation errors of pydantic as field errors, at most MAX_FAULTS.

    Args:
        problems: as `ValidationError.errors()` gives them.
        body: what was validated, to tell fields of the caller from pydantic's own marks.
        where: the part of the request, or None where each location begins with it.
        under: the pointer to `body` in what the caller sent.
    """
    found = []
    for problem in problems[:MAX_FAULTS]:
        location = list(problem["loc"])
        place = where or str(location.pop(0))
        if problem["type"] in {"union_tag_not_found", "union_tag_invalid"}:
            location.append(problem["ctx"]["discriminator"].strip("'"))
        if place == "body":
            named = under + pointer(_in_body(location, body, missing=_is_missing(problem)))
        else:
            named = pointer(location).removeprefix("/")
        found.append(FieldError(named, _sentence(problem), place))
    return found


def _is_missing(problem: Mapping[str, Any]) -> bool:
    return problem["type"] in {"missing", "union_tag_not_found"}


def _in_body(location: Sequence[str | int], body: Any, *, missing: bool) -> list[str | int]:
    """The location without what is not of the body: which member of a union was tried."""
    place: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(body, dict) and (part in body or (last and missing)):
            body = body.get(str(part))
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            continue
        place.append(part)
    return place


def _sentence(problem: Mapping[str, Any]) -> str:
    kind = problem["type"]
    if kind == "union_tag_invalid":
        return f"must be one of {problem['ctx']['expected_tags']}"
    if said := _SAID.get(kind):
        return said
    message = str(problem["msg"]).removeprefix("Value error, ")
    return _SHOULD.sub("must ", message)
