"""What a field of `fields` may be, and how it is written as JSON schema.

The subset, for each of 1 to 100 properties: `type` is "string", "number", "integer", "boolean" or
"array", or a list of one of these and "null"; a string may have `"format": "date"` or an `enum` of
2 to 500 strings (which lists null too where the type does); an array has `items`, of any of the
above but arrays and null; and each may have a `description`. Every field is asked for, so
`required` names all of them or is left out: what may be missing is null. Where it is given it is
also their order, since a database need not keep that of an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain.kinds.base import SchemaError
from app.domain.labels import (
    MAX_DESCRIPTION,
    Label,
    LabelProblem,
    LabelSet,
    LabelSetError,
    label_problems,
)
from app.domain.storable import unstorable

MAX_FIELDS: Final = 100
TYPES: Final = ("string", "number", "integer", "boolean")
_NULL: Final = "null"
_TO_NAME: Final = re.compile(r"/(\d+)/name")
_BESIDE: Final = ("type", "properties", "required", "additionalProperties", "description")


@dataclass(frozen=True)
class Scalar:
    """What a value that is no list may be.

    Attributes:
        type: "string", "number", "integer", "boolean" or "date".
        enum: of a string: what it is one of.
    """

    type: str
    enum: LabelSet | None = None


@dataclass(frozen=True)
class Field:
    """A named value.

    Attributes:
        name: 1 to 200 characters.
        of: what it is, or what each of the list is.
        is_list: whether it is a list of these.
        nullable: whether it may be null instead.
        description: for the model and for people; may be empty.
    """

    name: str
    of: Scalar
    is_list: bool = False
    nullable: bool = False
    description: str = ""

    def to_json_schema(self) -> dict[str, Any]:
        """The form that `parse_fields` reads, which is also what a model server is given."""
        of = _scalar_schema(self.of)
        schema: dict[str, Any] = {"type": "array", "items": of} if self.is_list else of
        if self.nullable:
            schema["type"] = [schema["type"], _NULL]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        if self.description:
            schema["description"] = self.description
        return schema


def parse_fields(schema: object) -> tuple[tuple[Field, ...], str]:
    """The fields of a JSON schema, in the order they are asked for, and its description.

    Raises:
        SchemaError: it is none of the subset; pointers are into the schema.
    """
    problems: list[LabelProblem] = []
    if not isinstance(schema, Mapping):
        raise SchemaError([LabelProblem("", "must be a JSON schema, an object")])
    problems += _unknown(schema, "", _BESIDE)
    if schema.get("type") != "object":
        problems.append(LabelProblem("/type", 'must be "object"'))
    if schema.get("additionalProperties", False) is not False:
        problems.append(LabelProblem("/additionalProperties", "must be false, or left out"))
    description = schema.get("description", "")
    problems += _description_problems(description, "/description")
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not 1 <= len(properties) <= MAX_FIELDS:
        detail = f"must be an object of 1 to {MAX_FIELDS} fields"
        raise SchemaError([*problems, LabelProblem("/properties", detail)])
    order = schema.get("required", list(properties))
    problems += _required_problems(order, properties)
    problems += _name_problems(list(properties))
    fields = []
    for name, of in properties.items():
        parsed = _Reader(f"/properties/{escaped(name)}")
        fields.append(parsed.field(name, of))
        problems += parsed.problems
    if problems:
        raise SchemaError(problems)
    return tuple(sorted(fields, key=lambda each: order.index(each.name))), str(description)


class _Reader:
    """Reads one property, collecting what is wrong with it."""

    def __init__(self, pointer: str) -> None:
        self.pointer = pointer
        self.problems: list[LabelProblem] = []

    def field(self, name: str, schema: object) -> Field:
        if not isinstance(schema, Mapping):
            self._fault("", "must be an object")
            return Field(name, Scalar("string"))
        kind, nullable = self._type(schema.get("type"))
        description = schema.get("description", "")
        self.problems += _description_problems(description, f"{self.pointer}/description")
        if kind == "array":
            self.problems += _unknown(schema, self.pointer, ("type", "items", "description"))
            of = self._items(schema.get("items"))
        else:
            of = self._scalar("", schema, kind, nullable=nullable, beside=("description",))
        return Field(name, of, kind == "array", nullable, str(description))

    def _type(self, given: object) -> tuple[str, bool]:
        kinds = given if isinstance(given, list) else [given]
        nullable = len(kinds) == 2 and _NULL in kinds
        kind = next((each for each in kinds if each != _NULL), None)
        if len(kinds) != 1 + nullable or kind not in (*TYPES, "array"):
            named = ", ".join(f'"{each}"' for each in (*TYPES, "array"))
            self._fault("/type", f'must be one of {named}, or a list of one of them and "null"')
            return "", nullable
        return str(kind), nullable

    def _items(self, schema: object) -> Scalar:
        if not isinstance(schema, Mapping):
            self._fault("/items", "must be an object: what the list is of")
            return Scalar("string")
        kind = schema.get("type")
        if kind not in TYPES:
            named = ", ".join(f'"{each}"' for each in TYPES)
            self._fault("/items/type", f"must be one of {named}")
            kind = ""
        return self._scalar("/items", schema, str(kind), nullable=False)

    def _scalar(
        self,
        at: str,
        schema: Mapping[str, Any],
        kind: str,
        *,
        nullable: bool,
        beside: tuple[str, ...] = (),
    ) -> Scalar:
        if not kind:  # nothing more can be said of what is of no known type
            return Scalar("string")
        known = ("type", *beside, *(("format", "enum") if kind == "string" else ()))
        self.problems += _unknown(schema, self.pointer + at, known)
        if kind != "string" or not {"format", "enum"} & schema.keys():
            return Scalar(kind)
        if "format" not in schema:
            return Scalar(kind, self._enum(f"{at}/enum", schema["enum"], nullable=nullable))
        if schema["format"] != "date":
            self._fault(f"{at}/format", 'must be "date"')
        if "enum" in schema:
            self._fault(f"{at}/enum", "can't stand beside a format")
        return Scalar("date")

    def _enum(self, at: str, given: object, *, nullable: bool) -> LabelSet | None:
        if not isinstance(given, list):
            self._fault(at, "must be a list of strings")
            return None
        if (None in given) is not nullable:
            self._fault(at, "must list null if the type does, and only then")
        # null is put last, so the others keep their positions in the list as it was given
        places = [place for place, each in enumerate(given) if each is not None]
        names = [given[place] for place in places]
        if not all(isinstance(name, str) for name in names) or len(given) > len(names) + 1:
            self._fault(at, "must be a list of strings")
            return None
        try:
            return LabelSet.of(names)
        except LabelSetError as error:
            for problem in error.problems:
                index = problem.pointer.strip("/").partition("/")[0]
                self._fault(
                    f"{at}/{places[int(index)]}" if index else at, _quoting(names, problem.detail)
                )
            return None

    def _fault(self, at: str, detail: str) -> None:
        self.problems.append(LabelProblem(self.pointer + at, detail))


def _scalar_schema(of: Scalar) -> dict[str, Any]:
    if of.type == "date":
        return {"type": "string", "format": "date"}
    if of.enum is None:
        return {"type": of.type}
    return {"type": "string", "enum": list(of.enum.names)}


def _unknown(schema: Mapping[str, Any], pointer: str, known: Iterable[str]) -> list[LabelProblem]:
    return [
        LabelProblem(f"{pointer}/{escaped(name)}", "is not in the subset that is taken here")
        for name in sorted(set(schema) - set(known))
    ]


def _description_problems(description: object, pointer: str) -> Iterable[LabelProblem]:
    if not isinstance(description, str):
        yield LabelProblem(pointer, "must be a string")
    elif len(description) > MAX_DESCRIPTION:
        yield LabelProblem(pointer, f"must have at most {MAX_DESCRIPTION} characters")
    elif fault := unstorable(description):
        yield LabelProblem(pointer, fault)


def _required_problems(required: object, properties: Iterable[str]) -> Iterable[LabelProblem]:
    given = required if isinstance(required, list) else [None]
    if not all(isinstance(name, str) for name in given) or sorted(given) != sorted(properties):
        yield LabelProblem(
            "/required",
            'must name every field, or be left out: what may be missing has the type "null" too',
        )


def _name_problems(names: list[str]) -> Iterable[LabelProblem]:
    for problem in label_problems([Label(name) for name in names]):
        index = int(problem.pointer.strip("/").partition("/")[0])
        detail = f"its name {_quoting(names, problem.detail)}"
        yield LabelProblem(f"/properties/{escaped(names[index])}", detail)


def _quoting(names: Sequence[str], detail: str) -> str:
    """A detail that points to a name of a list, with the name in place of the pointer."""
    return _TO_NAME.sub(lambda match: f'"{names[int(match[1])]}"', detail)


def escaped(name: str) -> str:
    """As a part of a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")
