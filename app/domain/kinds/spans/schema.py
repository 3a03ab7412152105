"""The schema of `spans`: asked for as a list of quotes with their labels and offsets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from app.domain.answers import decode_answer
from app.domain.json_places import find_places
from app.domain.kinds.base import Comparison, LabelSchema, Part, Score, ValueFaultError
from app.domain.kinds.closed import described, labels_definition_schema, listed, parse_labels
from app.domain.kinds.spans.quotes import MAX_ENTITIES, MAX_QUOTED, Quote, locate
from app.domain.kinds.spans.score import FIELDS, LIST, EntityScores
from app.domain.labels import LabelSet
from app.domain.leaves import Spelling
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable

_COUNT = "count"


@dataclass(frozen=True)
class SpansSchema(LabelSchema):
    """Stretches of the item's text, each with one of a set of labels.

    A value is a list of at most 1,000 entities `{"start", "end", "label", "text"}` by start, end
    and label, none twice, of at most 1,000,000 characters together. Offsets count Unicode code
    points of the item's text from 0, `text` is what stands between them. Entities may overlap.
    """

    KIND: ClassVar[str] = "spans"
    NEEDS_TEXT: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("span_f1", "exact")
    PART_MEASURES: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1")

    labels: LabelSet

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> Self:
        return cls(parse_labels(definition, least=1))

    def definition(self) -> dict[str, Any]:
        return {"labels": self.labels.to_dicts()}

    @classmethod
    def definition_schema(cls) -> dict[str, Any]:
        return labels_definition_schema(
            cls.KIND, "Entities: stretches of the item's text, each with one of a set of labels."
        )

    @property
    def part_names(self) -> tuple[str, ...]:
        return self.labels.names

    @property
    def task(self) -> str:
        return (
            "Find every stretch of the text between <item> and </item> that one of the labels is "
            "for."
        )

    @property
    def described(self) -> str:
        return described(self.labels)

    @property
    def form(self) -> str:
        return (
            'Answer with JSON only: {"entities": [{"text": "<the words, letter by letter as the '
            'item has them>", "label": "<one of the labels, spelled exactly as above>", "start": '
            '<how many characters of the item stand before them>, "end": <start plus the number '
            "of their characters>}, …]}\n"
            "List them in the order in which they stand in the text, the same words again where "
            'they stand there again. Where there are none: {"entities": []}'
        )

    @property
    def repair(self) -> str:
        return (
            "That was not a usable answer: every text has to stand in the item letter by letter, "
            f"between the offsets that are given with it. {self.form}"
        )

    def answer_schema(self) -> dict[str, Any]:
        """The schema of the answer, in the subset that strict structured output takes."""
        entity = {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "label": {"type": "string", "enum": list(self.labels.names)},
                "start": {"type": "integer"},
                "end": {"type": "integer"},
            },
            "required": list(FIELDS),
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {LIST: {"type": "array", "items": entity}},
            "required": [LIST],
            "additionalProperties": False,
        }

    def answer(self, value: Any) -> str:
        entities = [{name: entity[name] for name in FIELDS} for entity in value]
        return json.dumps({LIST: entities}, ensure_ascii=False)

    def read(self, answer: str, *, text: str) -> list[dict[str, Any]] | Unusable:
        """The entities that the answer gives, their offsets mended where that can be done."""
        found = self._located(answer, text)
        return found if isinstance(found, Unusable) else _value_of(found)

    def accept(self, value: Any, *, text: str | None) -> list[dict[str, Any]]:
        """The entities in order; their `text` may be left out, and is put in."""
        if text is None:
            raise TypeError("spans are accepted with the item's text at hand")
        if not isinstance(value, list):
            raise ValueFaultError("", "must be a list of entities, an empty one where none is")
        if len(value) > MAX_ENTITIES:
            raise ValueFaultError("", f"must have at most {MAX_ENTITIES} entities")
        quotes: list[Quote] = []
        seen: set[Quote] = set()
        quoted = 0
        for index, entity in enumerate(value):
            quote = self._accept_entity(entity, f"/{index}", text)
            quoted += len(quote.text)
            if quoted > MAX_QUOTED:
                raise ValueFaultError(
                    f"/{index}", f"makes more than {MAX_QUOTED} characters of all entities together"
                )
            if quote in seen:
                raise ValueFaultError(f"/{index}", "is in the list already")
            seen.add(quote)
            quotes.append(quote)
        return _value_of(quotes)

    def score(
        self, tokens: Sequence[Token], *, content: str, begin: int, value: Any, text: str
    ) -> Score | Unknown:
        """A part for each entity and one for their number: that there are no more of them.

        An entity said several times has the confidence with which it was said first.
        """
        spelling = Spelling(tokens, content.encode("utf-8", "surrogatepass"))
        places = find_places(spelling.data, begin=begin)
        answer = spelling.data[begin : places[()].end].decode("utf-8", "surrogatepass")
        found = self._located(answer, text)
        if isinstance(found, Unusable):
            return Unknown(found.reason, found.detail)
        scores = EntityScores(spelling, places, labels=self.labels)
        parts: dict[str, Part] = {}
        for index, quote in enumerate(found):
            name = _name(quote.start, quote.end, quote.label)
            if name in parts:
                continue
            scored = scores.entity(index, label=quote.label)
            if isinstance(scored, Unknown):
                return scored
            parts[name] = Part(name, _entity(quote), *scored)
        ended = scores.end(len(found))
        if isinstance(ended, Unknown):
            return ended
        parts[_COUNT] = Part(_COUNT, len(parts), *ended)
        # in the order of the value, the number last
        return Score.of_parts([parts[name] for name in self.parts_of(value)], p_raw=scores.p_raw)

    def parts_of(self, value: Any) -> dict[str, Any]:
        """The entities by place and label, such as "7-13:city", and how many there are."""
        entities = {_name(each["start"], each["end"], each["label"]): each for each in value}
        return {**entities, _COUNT: len(entities)}

    def compare(self, predicted: Any, actual: Any) -> Comparison:
        """Equal is the same set of places with their labels; span_f1 of two empty ones is 1."""
        model, person = _places(predicted), _places(actual)
        tallies: dict[tuple[int, str], int] = {}
        for place in model | person:
            said = "fn" if place not in model else "tp" if place in person else "fp"
            key = self.labels.index(place[2]), said
            tallies[key] = tallies.get(key, 0) + 1
        both = len(model) + len(person)
        return Comparison(
            equal=model == person,
            metrics={
                "span_f1": 2 * len(model & person) / both if both else 1.0,
                "exact": float(model == person),
            },
            tallies=tallies,
        )

    def _located(self, answer: str, text: str) -> list[Quote] | Unusable:
        """The entities of an answer in its order, where they stand in the text."""
        quotes = self._quotes(answer)
        if isinstance(quotes, Unusable):
            return quotes
        starts = locate(quotes, text=text)
        if isinstance(starts, Unusable):
            return starts
        return [
            quote._replace(start=start, end=start + len(quote.text))
            for quote, start in zip(quotes, starts, strict=True)
        ]

    def _quotes(self, answer: str) -> list[Quote] | Unusable:
        """The entities as the answer has them, the labels as the set spells them."""
        match decode_answer(answer):
            case {"entities": [*entities], **others} if not others:
                pass
            case _:
                return Unusable(
                    UnknownReason.WRONG_SHAPE,
                    "The answer is not an object of the one list asked for.",
                )
        if len(entities) > MAX_ENTITIES:
            return Unusable(
                UnknownReason.WRONG_SHAPE, f"The answer has more than {MAX_ENTITIES} entities."
            )
        quotes: list[Quote] = []
        for index, entity in enumerate(entities):
            quote = _quote(entity)
            if quote is None:
                return Unusable(
                    UnknownReason.WRONG_SHAPE,
                    f"Entity {index} of the answer has not the four fields asked for.",
                )
            label = self.labels.parse(quote.label)
            if label is None:
                return Unusable(
                    UnknownReason.LABEL_OUTSIDE_SCHEMA,
                    f"The label of entity {index} of the answer is none of the schema's.",
                )
            quotes.append(quote._replace(label=label.name))
        if sum(len(quote.text) for quote in quotes) > MAX_QUOTED:
            return Unusable(
                UnknownReason.WRONG_SHAPE,
                f"The entities of the answer have more than {MAX_QUOTED} characters.",
            )
        return quotes

    def _accept_entity(self, entity: Any, pointer: str, text: str) -> Quote:
        if not isinstance(entity, Mapping):
            raise ValueFaultError(pointer, "must be an object")
        for name in ("start", "end", "label"):
            if name not in entity:
                raise ValueFaultError(f"{pointer}/{name}", "required")
        for name in sorted(set(entity) - set(FIELDS)):
            raise ValueFaultError(f"{pointer}/{name}", "unknown field")
        start, end, label = entity["start"], entity["end"], entity["label"]
        if type(start) is not int or not 0 <= start < len(text):
            raise ValueFaultError(
                f"{pointer}/start",
                f"must be a whole number below the text's {len(text)} characters",
            )
        if type(end) is not int or not start < end <= len(text):
            raise ValueFaultError(
                f"{pointer}/end", f"must be a whole number above start, at most {len(text)}"
            )
        if not isinstance(label, str) or label not in self.labels.names:
            raise ValueFaultError(
                f"{pointer}/label", f"is none of the project's labels: {listed(self.labels.names)}"
            )
        quote = Quote(text[start:end], label, start, end)
        if entity.get("text", quote.text) != quote.text:
            raise ValueFaultError(f"{pointer}/text", "is not what stands between start and end")
        return quote


def _quote(entity: object) -> Quote | None:
    match entity:
        case {"text": str(words), "label": str(label), "start": start, "end": end, **others} if (
            words and not others and type(start) is int and type(end) is int
        ):
            return Quote(words, label, start, end)
        case _:
            return None


def _value_of(quotes: Iterable[Quote]) -> list[dict[str, Any]]:
    order = sorted(set(quotes), key=lambda quote: (quote.start, quote.end, quote.label))
    return [_entity(quote) for quote in order]


def _entity(quote: Quote) -> dict[str, Any]:
    return {
        "start": quote.start,
        "end": quote.end,
        "label": quote.label,
        "text": quote.text,
    }


def _name(start: int, end: int, label: str) -> str:
    return f"{start}-{end}:{label}"


def _places(value: Iterable[Mapping[str, Any]]) -> frozenset[tuple[int, int, str]]:
    return frozenset((each["start"], each["end"], each["label"]) for each in value)
