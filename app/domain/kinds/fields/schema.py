"""The schema of `fields`: asked for as a JSON object of these very fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Self

from app.domain.answers import decode_answer
from app.domain.json_places import Place, find_places
from app.domain.kinds.base import (
    Comparison,
    LabelSchema,
    Part,
    SchemaError,
    Score,
    ValueFaultError,
    problems_under,
    refuse_unknown,
)
from app.domain.kinds.fields.definition import MAX_FIELDS, Field, escaped, parse_fields
from app.domain.kinds.fields.values import MAX_TOGETHER, characters, checked, comparable
from app.domain.labels import LabelProblem, LabelSet
from app.domain.leaves import LeafScore, Spelling, closed_leaf, open_leaf
from app.domain.literals import BOOLEAN, Literals
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable

_SHOWN: Final = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "date": "date as YYYY-MM-DD",
}
# what the values of a type begin with, where only null is told apart from them
_OPENINGS: Final = {
    "string": b'"',
    "date": b'"',
    "number": b"-0123456789",
    "integer": b"-0123456789",
}


@dataclass(frozen=True)
class FieldsSchema(LabelSchema):
    """Named values, all of them in every answer, null where that is allowed.

    Attributes:
        fields: 1 to 100, in the order they are asked for.
        description: of them all; may be empty.
    """

    KIND: ClassVar[str] = "fields"
    METRICS: ClassVar[tuple[str, ...]] = ("field_accuracy", "exact")
    PART_MEASURES: ClassVar[tuple[str, ...]] = ("accuracy",)

    fields: tuple[Field, ...]
    description: str = ""

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> Self:
        problems = refuse_unknown(definition, ["schema"])
        if "schema" not in definition:
            raise SchemaError([*problems, LabelProblem("/schema", "required")])
        try:
            fields, description = parse_fields(definition["schema"])
        except SchemaError as error:
            raise SchemaError([*problems, *problems_under("/schema", error.problems)]) from error
        if problems:
            raise SchemaError(problems)
        return cls(fields, description)

    def definition(self) -> dict[str, Any]:
        schema = self.answer_schema()
        if self.description:
            schema["description"] = self.description
        return {"schema": schema}

    @classmethod
    def definition_schema(cls) -> dict[str, Any]:
        schema = {
            "type": "object",
            "description": (
                f"JSON schema of an object of 1 to {MAX_FIELDS} fields: strings (also with "
                '`"format": "date"` or an `enum`), numbers, integers, booleans, and arrays of '
                'these; each also nullable by `"type": [..., "null"]`, and with a description. '
                "Every field is asked for, in the order of `required` where that is given."
            ),
            "properties": {
                "type": {"const": "object", "type": "string"},
                "description": {"type": "string"},
                "properties": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": MAX_FIELDS,
                    "additionalProperties": {"type": "object", "additionalProperties": True},
                },
                "required": {"type": "array", "items": {"type": "string"}},
                "additionalProperties": {"const": False, "type": "boolean"},
            },
            "required": ["type", "properties"],
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "title": cls.KIND,
            "description": "Named values taken from the item.",
            "properties": {"kind": {"const": cls.KIND, "type": "string"}, "schema": schema},
            "required": ["kind", "schema"],
            "additionalProperties": False,
        }

    @property
    def part_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def task(self) -> str:
        return "Take the fields below from the item that stands between <item> and </item>."

    @property
    def described(self) -> str:
        lines = [
            f"- {json.dumps(field.name, ensure_ascii=False)}: {_shown(field)}"
            + (f" - {field.description}" if field.description else "")
            for field in self.fields
        ]
        given = f"{self.description}\n" if self.description else ""
        return f"{given}Fields:\n" + "\n".join(lines)

    @property
    def form(self) -> str:
        nullable = any(field.nullable for field in self.fields)
        null = " Where the item does not say it, null, if the field may be null." * nullable
        return (
            "Answer with JSON only: one object with every field above, spelled and ordered "
            f"exactly so, and no other.{null}"
        )

    @property
    def repair(self) -> str:
        return (
            "That was not a usable answer. Answer with JSON only: one object with every field "
            "spelled exactly as given, each of the type given, and nothing else."
        )

    def answer_schema(self) -> dict[str, Any]:
        """The schema of the answer, in the subset that strict structured output takes."""
        return {
            "type": "object",
            "properties": {field.name: field.to_json_schema() for field in self.fields},
            "required": [field.name for field in self.fields],
            "additionalProperties": False,
        }

    def answer(self, value: Any) -> str:
        return json.dumps({name: value[name] for name in self.part_names}, ensure_ascii=False)

    def read(self, answer: str, *, text: str) -> dict[str, Any] | Unusable:
        """The fields that the answer gives, as they are stored."""
        try:
            return self.accept(decode_answer(answer), text=text)
        except ValueFaultError as fault:
            # of the fault's place only what is the schema's own: the answer is not quoted
            first = "/" + fault.pointer.removeprefix("/").partition("/")[0]
            where = f"{first} of the answer" if first in self._pointers() else "The answer"
            return Unusable(UnknownReason.WRONG_SHAPE, f"{where} is not what the schema asks for.")

    def accept(self, value: Any, *, text: str | None) -> dict[str, Any]:  # noqa: ARG002 - of all kinds
        """All the fields, choices as the schema spells them, 5.0 as 5."""
        if not isinstance(value, dict):
            raise ValueFaultError("", "must be an object of fields")
        names = self.part_names
        for name in value:
            if name not in names:
                raise ValueFaultError(f"/{escaped(name)}", "is no field of the schema")
        for name in names:
            if name not in value:
                raise ValueFaultError(f"/{escaped(name)}", "required")
        accepted = {
            field.name: checked(field, value[field.name], pointer=f"/{escaped(field.name)}")
            for field in self.fields
        }
        if sum(map(characters, accepted.values())) > MAX_TOGETHER:
            detail = f"must have at most {MAX_TOGETHER} characters in all fields together"
            raise ValueFaultError("", detail)
        return accepted

    def score(
        self,
        tokens: Sequence[Token],
        *,
        content: str,
        begin: int,
        value: Any,
        text: str,  # noqa: ARG002 - of all kinds
    ) -> Score | Unknown:
        """A part for each field: its share where it is one of a few values, else joint."""
        spelling = Spelling(tokens, content.encode())
        places = find_places(spelling.data, begin=begin)
        leaves: list[LeafScore] = []
        parts: list[Part] = []
        for field in self.fields:
            said = value[field.name]
            leaf = _score(spelling, places[field.name,], field, said)
            if isinstance(leaf, Unknown):
                return leaf
            leaves.append(leaf)
            parts.append(Part(field.name, said, leaf.confidence, leaf.logit))
        return Score.of_parts(parts, p_raw=spelling.p_raw(leaves))

    def parts_of(self, value: Any) -> dict[str, Any]:
        return {name: comparable(value[name]) for name in self.part_names}

    def compare(self, predicted: Any, actual: Any) -> Comparison:
        """Field by field: texts by NFC and stripped, numbers by value, lists in any order."""
        model, person = self.parts_of(predicted), self.parts_of(actual)
        right = [model[name] == person[name] for name in self.part_names]
        return Comparison(
            equal=all(right),
            metrics={
                "field_accuracy": sum(right) / len(right),
                "exact": float(all(right)),
            },
            tallies={(position, "tp" if each else "fp"): 1 for position, each in enumerate(right)},
        )

    def _pointers(self) -> frozenset[str]:
        return frozenset(f"/{escaped(name)}" for name in self.part_names)


def _score(spelling: Spelling, place: Place, field: Field, said: Any) -> LeafScore | Unknown:
    among = _closed(field)
    if among is None and said is None:
        among = _null_or(b"[" if field.is_list else _OPENINGS[field.of.type])
    if among is not None:
        return closed_leaf(spelling, place, among=among, value=said)
    # the opening quote of what may be null says that it is not, else nothing
    told = isinstance(said, str) and not field.nullable
    return open_leaf(spelling, place.inside() if told else place)


@lru_cache(maxsize=4096)
def _closed(field: Field) -> LabelSet | Literals | None:
    """What a field's value is one of, if of a few."""
    if field.is_list:
        return None
    if field.of.type == "boolean":
        return Literals([True, False, None]) if field.nullable else BOOLEAN
    if field.of.enum is None or not field.nullable:
        return field.of.enum
    return Literals([None], strings=field.of.enum.names)


@lru_cache(maxsize=64)
def _null_or(openings: bytes) -> Literals:
    """Null, or any value that begins so."""
    return Literals([None], openings=openings)


def _shown(field: Field) -> str:
    if field.of.enum is None:
        one = _SHOWN[field.of.type]
    else:
        names = (json.dumps(name, ensure_ascii=False) for name in field.of.enum.names)
        one = f"one of {', '.join(names)}"
    shown = f"list, each {one}" if field.is_list else one
    return f"{shown}, or null" if field.nullable else shown
