from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.answers import FoundAnswer, find_answer
from app.domain.kinds import parse_schema
from app.domain.kinds.base import SchemaError, Score, ValueFaultError
from app.domain.kinds.spans import SpansSchema
from app.domain.labels import Label, LabelSet
from app.domain.prompting import Example, system_prompt
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable
from tests.support.answer_tokens import Others, answer_tokens, cuts, scored, token, tokens

SCHEMA = SpansSchema(LabelSet.of([Label("person", "A human being, by name."), "city"]))
ALONE = SpansSchema(LabelSet.of(["name"], least=1))
TEXT = "Angela flew to Berlin. Berlin was wet."
Given = Mapping[str | tuple[str, int], tuple[float, Others]]


def quote(words: str, start: int = 0, end: int = 0, label: str = "city") -> dict[str, Any]:
    return {"text": words, "label": label, "start": start, "end": end}


def entity(start: int, end: int, label: str = "city", *, text: str = TEXT) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, "text": text[start:end]}


def said(*quotes: Mapping[str, Any]) -> str:
    return json.dumps({"entities": quotes}, ensure_ascii=False)


def read(content: str, *, text: str = TEXT) -> list[dict[str, Any]] | Unusable:
    found = find_answer(content)
    return found if isinstance(found, Unusable) else SCHEMA.read(found.text, text=text)


def score_tokens(
    spelled: tuple[Token, ...], *, schema: SpansSchema = SCHEMA, text: str = TEXT
) -> Score | Unknown:
    content = b"".join(each.data for each in spelled).decode()
    found = find_answer(content)
    assert isinstance(found, FoundAnswer)
    value = schema.read(found.text, text=text)
    assert isinstance(value, list)
    return schema.score(spelled, content=content, begin=found.begin, value=value, text=text)


def score(content: str, given: Given, *, schema: SpansSchema = SCHEMA, text: str = TEXT) -> Score:
    result = score_tokens(answer_tokens(content, given), schema=schema, text=text)
    assert isinstance(result, Score), result
    return result


def confidences(result: Score) -> dict[str, Any]:
    return {part.name: pytest.approx(part.confidence, rel=1e-9) for part in result.parts}


class TestDefinition:
    def test_is_read_back(self) -> None:
        for schema in (SCHEMA, ALONE):
            again = parse_schema({"kind": "spans", **schema.definition()})
            assert again == schema
            assert hash(again) == hash(schema)

    @pytest.mark.parametrize(
        ("definition", "pointer"),
        [
            ({}, "/labels"),
            ({"labels": []}, "/labels"),
            ({"labels": [1]}, "/labels/0"),
            ({"labels": ["city", {"name": " person"}]}, "/labels/1/name"),
            ({"labels": ["city"], "text": ""}, "/text"),
        ],
    )
    def test_that_is_none_says_where(self, definition: dict[str, Any], pointer: str) -> None:
        with pytest.raises(SchemaError) as refused:
            SpansSchema.parse(definition)
        assert [problem.pointer for problem in refused.value.problems] == [pointer]

    def test_the_answer_is_strict_and_closed(self) -> None:
        schema = SCHEMA.answer_schema()
        item = schema["properties"]["entities"]["items"]
        assert item["properties"]["label"] == {"type": "string", "enum": ["person", "city"]}
        for each in (schema, item):
            assert each["required"] == list(each["properties"])
            assert each["additionalProperties"] is False

    def test_the_prompt_shows_labels_examples_and_the_empty_answer(self) -> None:
        example = Example({"text": TEXT}, [entity(15, 21)])
        prompt = system_prompt(SCHEMA, instructions="", examples=[example])
        assert '- "person": A human being, by name.' in prompt
        assert said(quote("Berlin", 15, 21)) in prompt
        assert '{"entities": []}' in prompt


class TestReading:
    @pytest.mark.parametrize(
        ("quotes", "value"),
        [
            ([], []),
            ([quote("Berlin", 15, 21)], [entity(15, 21)]),
            ([quote("Berlin", 23, 29, "CITY")], [entity(23, 29)]),  # the label in any case
            ([quote("wet.", 34, 38)], [entity(34, 38)]),  # to the very end
            ([quote(TEXT, 0, 38)], [entity(0, 38)]),
            # by place, whatever the order; once, if said twice
            (
                [quote("wet", 34, 37), quote("Angela", 0, 6, "person"), quote("wet", 34, 37)],
                [entity(0, 6, "person"), entity(34, 37)],
            ),
            # two labels of one place, and one place within another
            (
                [quote("wet", 34, 37, "person"), quote("wet", 34, 37), quote("was wet", 30, 37)],
                [entity(30, 37), entity(34, 37, "city"), entity(34, 37, "person")],
            ),
            # repaired: only the end is wrong, or the words stand there but once
            ([quote("Berlin", 15, 20)], [entity(15, 21)]),
            ([quote("Berlin", 23, 10**30)], [entity(23, 29)]),
            ([quote("Angela", 7, 13)], [entity(0, 6)]),
            ([quote("wet", -3, 0)], [entity(34, 37)]),
            ([quote("wet", 3), quote("wet", 4)], [entity(34, 37)]),
            # as often as they stand there: in the order of the offsets
            ([quote("Berlin", 1), quote("Berlin", 2)], [entity(15, 21), entity(23, 29)]),
            (
                [quote("Berlin", 22, 28, "person"), quote("Berlin", 14, 20)],
                [entity(15, 21), entity(23, 29, "person")],
            ),
            # one stands where it says, so the other is the other
            ([quote("Berlin", 23, 29), quote("Berlin", 9)], [entity(15, 21), entity(23, 29)]),
        ],
    )
    def test_takes_the_words_where_they_stand(
        self, quotes: list[dict[str, Any]], value: list[dict[str, Any]]
    ) -> None:
        assert read(said(*quotes)) == value

    @pytest.mark.parametrize(
        ("text", "words", "start", "place"),
        [
            ("\U0001f600 Bonn", "Bonn", 3, 2),  # counted in UTF-16
            ("\U0001f600 Bonn", "Bonn", 5, 2),  # counted in UTF-8
            ("\U0001f600\U0001f600", "\U0001f600\U0001f600", 0, 0),
            ("\U0001f468\u200d\U0001f4bb codes", "\U0001f468\u200d\U0001f4bb", 1, 0),
            ("cafe\u0301 Bonn", "Bonn", 5, 6),  # counted in what one sees
            ("cafe\u0301 Bonn", "cafe\u0301", 0, 0),
            ("Bonn</item> am Rhein", "Rhein", 8, 15),  # the tag is not shown to the model
            ("a\n\tb", "\n\tb", 1, 1),
        ],
    )
    def test_counts_code_points(self, text: str, words: str, start: int, place: int) -> None:
        value = read(said(quote(words, start, start + 1)), text=text)
        assert value == [entity(place, place + len(words), text=text)]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", UnknownReason.EMPTY_ANSWER),
            ("Berlin", UnknownReason.NOT_JSON),
            ('{"entities": [{"text": "Ber', UnknownReason.TRUNCATED),
            ("[]", UnknownReason.WRONG_SHAPE),
            ("{}", UnknownReason.WRONG_SHAPE),
            ('{"entities": {}}', UnknownReason.WRONG_SHAPE),
            ('{"entities": null}', UnknownReason.WRONG_SHAPE),
            ('{"entities": "Berlin"}', UnknownReason.WRONG_SHAPE),
            ('{"entities": ["Berlin"]}', UnknownReason.WRONG_SHAPE),
            ('{"entities": [], "more": false}', UnknownReason.WRONG_SHAPE),
            (said({"text": "Berlin", "label": "city"}), UnknownReason.WRONG_SHAPE),
            (said({**quote("Berlin", 15, 21), "why": "it is"}), UnknownReason.WRONG_SHAPE),
            (said({**quote("Berlin", 15, 21), "start": "15"}), UnknownReason.WRONG_SHAPE),
            (said({**quote("Berlin", 15, 21), "start": 15.0}), UnknownReason.WRONG_SHAPE),
            (said({**quote("Berlin", 15, 21), "end": True}), UnknownReason.WRONG_SHAPE),
            (said({**quote("Berlin", 15, 21), "text": ["Berlin"]}), UnknownReason.WRONG_SHAPE),
            (said(quote("", 0, 0)), UnknownReason.WRONG_SHAPE),
            (said(*[quote("wet", 34, 37)] * 1_001), UnknownReason.WRONG_SHAPE),
            (said(quote("Berlin", 15, 21, "country")), UnknownReason.LABEL_OUTSIDE_SCHEMA),
            (said(quote("Bonn", 15, 21)), UnknownReason.QUOTE_NOT_FOUND),
            (said(quote("berlin", 15, 21)), UnknownReason.QUOTE_NOT_FOUND),
            (said(quote("Berlin\0", 15, 21)), UnknownReason.QUOTE_NOT_FOUND),
            ('{"entities": [' + json.dumps(quote("\ud800")) + "]}", UnknownReason.QUOTE_NOT_FOUND),
            (said(quote("Berlin", 14, 20)), UnknownReason.QUOTE_AMBIGUOUS),
            (said(*[quote("Berlin", 14, 20)] * 3), UnknownReason.QUOTE_AMBIGUOUS),
            (
                said(quote("Berlin", 15, 21), quote("Berlin", 1), quote("Berlin", 2)),
                UnknownReason.QUOTE_AMBIGUOUS,
            ),
            (said(quote("e", 0, 1)), UnknownReason.QUOTE_AMBIGUOUS),
        ],
    )
    def test_an_unusable_answer_has_its_reason(self, content: str, reason: UnknownReason) -> None:
        answer = read(content)
        assert isinstance(answer, Unusable)
        assert answer.reason is reason
        assert "Berlin" not in answer.detail

    def test_places_that_overlap_are_several(self) -> None:
        assert isinstance(read(said(quote("aa", 5, 7)), text="aaa"), Unusable)
        both = read(said(quote("aa", 5, 7), quote("aa", 6, 8)), text="aaa")
        assert both == [entity(0, 2, text="aaa"), entity(1, 3, text="aaa")]

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_what_it_takes_stands_there(self, data: st.DataObject) -> None:
        text = data.draw(st.text("ab\U0001f600\u0301 ", min_size=1, max_size=12))
        places = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
        words = places.map(lambda place: text[min(place) : max(place)] or "a")
        offsets = st.integers(-2, len(text) + 2)
        quotes = st.builds(quote, words, offsets, offsets, st.sampled_from(SCHEMA.labels.names))
        answer = data.draw(st.lists(quotes, max_size=4))
        value = read(said(*answer), text=text)
        if not isinstance(value, Unusable):
            assert SCHEMA.accept(value, text=text) == value
            assert {each["text"] for each in value} == {each["text"] for each in answer}


class TestAccepting:
    def test_sorts_and_puts_the_text_in(self) -> None:
        value: list[dict[str, Any]] = [
            {"start": 23, "end": 29, "label": "city"},
            {"start": 0, "end": 12, "label": "person", "text": "Angela flew "},
            {"start": 0, "end": 6, "label": "person"},
        ]
        accepted = SCHEMA.accept(value, text=TEXT)
        assert accepted == [entity(0, 6, "person"), entity(0, 12, "person"), entity(23, 29)]
        assert SCHEMA.decode(SCHEMA.encode(accepted)) == accepted

    @pytest.mark.parametrize(
        ("given_entity", "pointer"),
        [
            ("Berlin", ""),
            (entity(0, 6), ""),  # twice
            ({"start": 0, "end": 1}, "/label"),
            ({"start": 0, "label": "city"}, "/end"),
            ({"end": 1, "label": "city"}, "/start"),
            ({**entity(0, 1), "score": 1}, "/score"),
            (entity(0, 1, "country"), "/label"),
            (entity(0, 1, "CITY"), "/label"),
            ({"start": 0, "end": 1, "label": ["city"]}, "/label"),
            ({"start": -1, "end": 1, "label": "city"}, "/start"),
            ({"start": 38, "end": 39, "label": "city"}, "/start"),
            ({"start": True, "end": 2, "label": "city"}, "/start"),
            ({"start": 0.0, "end": 2, "label": "city"}, "/start"),
            ({"start": 5, "end": 5, "label": "city"}, "/end"),
            ({"start": 5, "end": 39, "label": "city"}, "/end"),
            ({"start": 0, "end": 5, "label": "city", "text": "Angela"}, "/text"),
            ({"start": 0, "end": 5, "label": "city", "text": None}, "/text"),
        ],
    )
    def test_refuses_with_the_place(self, given_entity: object, pointer: str) -> None:
        with pytest.raises(ValueFaultError) as refused:
            SCHEMA.accept([entity(0, 6), given_entity], text=TEXT)
        assert refused.value.pointer == f"/1{pointer}"

    @pytest.mark.parametrize("value", [None, {}, "Berlin", [entity(0, 1)] * 1_001])
    def test_refuses_what_is_no_list_of_them(self, value: object) -> None:
        with pytest.raises(ValueFaultError) as refused:
            SCHEMA.accept(value, text=TEXT)
        assert refused.value.pointer == ""

    def test_is_not_done_without_the_text(self) -> None:
        with pytest.raises(TypeError):
            SCHEMA.accept([], text=None)

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_what_is_said_of_a_value_is_read_back(self, data: st.DataObject) -> None:
        text = data.draw(st.text(min_size=1, max_size=30))
        place = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
        places = data.draw(st.sets(place.filter(lambda place: place[0] < place[1]), max_size=5))
        value = SCHEMA.accept(
            [
                {
                    "start": start,
                    "end": end,
                    "label": data.draw(st.sampled_from(["city", "person"])),
                }
                for start, end in places
            ],
            text=text,
        )
        assert SCHEMA.read(SCHEMA.answer(value), text=text) == value
        assert SCHEMA.decode(SCHEMA.encode(value)) == value

    def test_a_few_offsets_can_not_quote_a_large_text_without_end(self) -> None:
        text = "x" * 300_000
        given = [{"start": n, "end": len(text), "label": "city"} for n in range(4)]
        with pytest.raises(ValueFaultError, match="more than 1000000 characters") as fault:
            SCHEMA.accept(given, text=text)
        assert fault.value.pointer == "/3"
        value = SCHEMA.accept(given[:3], text=text)
        assert SCHEMA.read(SCHEMA.answer(value), text=text) == value
        quotes = said(*[quote(text[n:], n, len(text)) for n in range(4)])
        assert isinstance(read(quotes, text=text), Unusable)


ONE = said(quote("Berlin", 15, 21))
TWO = said(quote("Angela", 0, 6, "person"), quote("Berlin", 15, 21))
SURE: Given = {
    ' [{"': (0.8, {" []}": 0.2}),
    "Berlin": (0.9, {"Bonn": 0.1}),
    "city": (0.7, {"person": 0.3}),
    "}]}": (0.6, {"},": 0.4}),
}


class TestScore:
    def test_of_an_entity_is_that_it_is_there_its_words_and_its_label(self) -> None:
        result = score(ONE, SURE)
        assert confidences(result) == {"15-21:city": 0.8 * 0.9 * 0.7, "count": 0.6}
        assert [part.value for part in result.parts] == [entity(15, 21), 1]
        assert result.confidence == pytest.approx(0.504)
        assert result.logit == pytest.approx(math.log(0.504 / 0.496))
        assert result.p_raw == pytest.approx(0.8 * 0.9 * 0.7 * 0.6)
        assert set(SCHEMA.parts_of([entity(15, 21)])) == {part.name for part in result.parts}

    def test_the_layout_of_a_value_says_nothing_of_it(self) -> None:
        given: Given = {
            **SURE,
            ' [{"': (0.5, {'[{"': 0.3, "[]}": 0.2}),  # without the space it is the same list
            (' "', 0): (0.3, {"\n": 0.7}),  # before the words
            ("label", 0): (0.4, {"name": 0.6}),
        }
        assert confidences(score(ONE, given)) == confidences(score(ONE, SURE))

    def test_of_one_label_has_no_label_to_choose(self) -> None:
        content = said(quote("Berlin", 15, 21, "name"))
        given: Given = {name: SURE[name] for name in (' [{"', "Berlin", "}]}")}
        result = score(content, given, schema=ALONE)
        assert confidences(result) == {"15-21:name": 0.8 * 0.9, "count": 0.6}

    def test_of_an_empty_list_is_that_it_is_empty(self) -> None:
        result = score('{"entities": []}', {" []}": (0.7, {' [{"': 0.2, " [": 0.1})})
        assert confidences(result) == {"count": 0.7}
        assert result.parts[0].value == 0

    def test_a_model_that_would_rather_go_on_is_in_doubt_of_the_whole(self) -> None:
        result = score(ONE, {**SURE, "}]}": (0.1, {"},": 0.9})})
        assert result.confidence == pytest.approx(0.1)

    def test_a_model_that_would_rather_have_stopped_is_in_doubt_of_what_it_added(self) -> None:
        given: Given = {
            ' [{"': (0.99, {" []}": 0.01}),
            "},": (0.25, {"}]}": 0.75}),
            "Angela": (0.9, {"Anna": 0.1}),
            "person": (0.8, {"city": 0.2}),
            "Berlin": (0.95, {"Bonn": 0.05}),
            "city": (0.7, {"person": 0.3}),
            "}]}": (0.6, {"},": 0.4}),
        }
        result = score(TWO, given)
        assert confidences(result) == {
            "0-6:person": 0.99 * 0.9 * 0.8,
            "15-21:city": 0.25 * 0.95 * 0.7,
            "count": 0.6,
        }
        assert result.confidence == pytest.approx(0.25 * 0.95 * 0.7)

    @pytest.mark.parametrize("start", ["15", "0"])
    def test_the_numbers_are_no_matter(self, start: str) -> None:
        # at 0 "wet" does not stand: it is repaired, and how sure the model was is the same
        content = said(quote("wet", int(start), 37))
        given = {**SURE, "wet": (0.9, {"damp": 0.1})}
        del given["Berlin"]
        sure = score(content, given)
        unsure = score(
            content,
            {**given, start: (0.01, {"34": 0.99}), "37": (0.02, {"38": 0.9}), "start": (0.5, {})},
        )
        assert unsure == sure

    def test_nor_where_a_number_ends(self) -> None:
        # of what ends the number, a third goes on with the list
        among = score(ONE, {**SURE, "}]}": (0.2, {"},": 0.1, "0": 0.5, "7": 0.2})})
        assert confidences(among)["count"] == 0.2 / 0.3
        # what can be neither is doubt
        other = score(ONE, {**SURE, "}]}": (0.2, {"},": 0.1, "0": 0.5, "x": 0.2})})
        assert confidences(other)["count"] == 0.2 / 0.5

    def test_white_space_can_tell_that_the_list_ends(self) -> None:
        content = json.dumps({"entities": [quote("Berlin", 15, 21)]}, indent=2)
        given: Given = {
            "Berlin": (0.9, {"Bonn": 0.1}),
            "city": (0.7, {"person": 0.3}),
            ("\n    ", 0): (0.95, {"]": 0.05}),
            ("}", 0): (0.7, {"},": 0.3}),
            ("\n  ", 1): (0.9, {",": 0.1}),
        }
        result = score(content, given)
        assert confidences(result) == {"15-21:city": 0.95 * 0.9 * 0.7, "count": 0.7 * 0.9}

    def test_the_order_of_the_fields_is_no_matter(self) -> None:
        fields = quote("Berlin", 15, 21)
        turned = {name: fields[name] for name in ("start", "label", "end", "text")}
        given = {**SURE, '"}]}': (0.6, {'"},': 0.4})}
        del given["}]}"]
        # the closing quote of the words is in that token, so they are no surer than it
        assert confidences(score(said(turned), given)) == {
            "15-21:city": 0.8 * (0.9 * 0.6) * 0.7,
            "count": 0.6,
        }

    def test_what_is_said_twice_is_as_sure_as_at_first(self) -> None:
        content = said(quote("wet", 34, 37), quote("wet", 34, 37))
        given: Given = {
            ' [{"': (0.8, {" []}": 0.2}),
            ("wet", 0): (0.9, {"damp": 0.1}),
            ("wet", 1): (0.2, {"damp": 0.8}),
            "city": (0.7, {"person": 0.3}),
            "}]}": (0.6, {"},": 0.4}),
        }
        result = score(content, given)
        assert confidences(result) == {"34-37:city": 0.8 * 0.9 * 0.7, "count": 0.6}
        assert result.parts[-1].value == 1

    def test_around_the_answer_nothing_counts(self) -> None:
        bare = score(ONE, SURE)
        wrapped = tokens(
            token("<think>[{Berlin}]</think>", 0.01, {"": 0.9}),
            token("```json\n", 0.01, {"[]": 0.9}),
            *answer_tokens(ONE, SURE),
            token("\n```", 0.0),
        )
        assert score_tokens(wrapped) == bare

    def test_ranks_where_the_confidence_saturates(self) -> None:
        logits = []
        for doubt in (1e-12, 1e-17, 1e-18):
            given: Given = {
                ' [{"': (1.0, {" []}": 1e-30}),
                "Berlin": (1.0, {"Bonn": doubt}),
                "city": (1.0, {"person": 1e-25}),
                "}]}": (1.0, {"},": 1e-30}),
            }
            result = score(ONE, given)
            assert result.confidence == pytest.approx(1.0)
            logits.append(result.logit)
            assert result.logit == pytest.approx(-math.log(doubt), rel=1e-6)
        assert logits == sorted(logits)

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ({"Berlin": (0.0, {"Bonn": 0.9})}, UnknownReason.CLAMPED_LOGPROB),
            ({"city": (0.0, {"person": 0.9})}, UnknownReason.CLAMPED_LOGPROB),
            ({"}]}": (0.0, {"},": 0.9})}, UnknownReason.CLAMPED_LOGPROB),
            ({"}]}": (1.0, {})}, UnknownReason.NO_ALTERNATIVES),
            ({' [{"': (1.0, {" []}": 0.0})}, UnknownReason.NO_ALTERNATIVES),
            ({"city": (1.0, {})}, UnknownReason.NO_ALTERNATIVES),
            ({"Berlin": (1.0, {})}, UnknownReason.NO_ALTERNATIVES),
            ({"Berlin": (0.9, {"Bonn": 0.9})}, UnknownReason.NOT_A_DISTRIBUTION),
            ({"}]}": (0.9, {"},": 0.9})}, UnknownReason.NOT_A_DISTRIBUTION),
        ],
    )
    def test_fails_closed(self, given: Given, reason: UnknownReason) -> None:
        unknown = score_tokens(answer_tokens(ONE, {**SURE, **given}))
        assert isinstance(unknown, Unknown)
        assert unknown.reason is reason

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=4, max_size=4))
    def test_is_the_product_of_its_probabilities(self, p: list[float]) -> None:
        others = ({" []}": 1 - p[0]}, {"Bonn": 1 - p[1]}, {"person": 1 - p[2]}, {"},": 1 - p[3]})
        result = score(ONE, dict(zip(SURE, zip(p, others, strict=True), strict=True)))
        first = math.prod(p[:3])
        assert result.parts[0].confidence == pytest.approx(first, rel=1e-6)
        assert result.parts[0].logit == pytest.approx(
            math.log(first) - math.log1p(-first), abs=1e-6
        )
        assert result.parts[1].confidence == pytest.approx(p[3], rel=1e-6)
        assert result.confidence == min(part.confidence for part in result.parts)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_of_any_tokens_is_in_its_bounds(self, data: st.DataObject) -> None:
        text = "Zoë \U0001f600 and Zoë\n"
        value = data.draw(
            st.sampled_from([[], [(0, 3)], [(4, 5), (0, 3)], [(10, 13), (0, 3), (0, 14)]])
        )
        accepted = SCHEMA.accept(
            [{"start": start, "end": end, "label": "person"} for start, end in value], text=text
        )
        indent = data.draw(st.sampled_from([None, 0, 2]))
        content = json.dumps(
            json.loads(SCHEMA.answer(accepted)),
            ensure_ascii=data.draw(st.booleans()),
            indent=indent,
        )
        pool = [b"", b" ", *b'[ ] }, }] " Zo \xc3 per \\ 1 \xff'.split()]
        spelled = tuple(data.draw(cuts(content.encode()).flatmap(lambda cut: scored(cut, pool))))
        result = score_tokens(spelled, text=text)
        if isinstance(result, Score):
            assert [part.name for part in result.parts] == list(SCHEMA.parts_of(accepted))
            for part in result.parts:
                assert 0.0 <= part.confidence <= 1.0
                assert math.isfinite(part.logit)
            assert result.p_raw is not None
            assert 0.0 <= result.p_raw <= 1.0
            assert result.logit == min(part.logit for part in result.parts)


class TestComparison:
    @pytest.mark.parametrize(
        ("predicted", "actual", "f1", "tallies"),
        [
            ([], [], 1.0, {}),
            ([entity(0, 6)], [entity(0, 6)], 1.0, {(1, "tp"): 1}),
            ([entity(0, 6)], [], 0.0, {(1, "fp"): 1}),
            ([], [entity(0, 6, "person")], 0.0, {(0, "fn"): 1}),
            ([entity(0, 6)], [entity(0, 6, "person")], 0.0, {(1, "fp"): 1, (0, "fn"): 1}),
            ([entity(0, 6)], [entity(0, 7)], 0.0, {(1, "fp"): 1, (1, "fn"): 1}),
            (
                [entity(0, 6), entity(15, 21), entity(23, 29)],
                [entity(15, 21), entity(23, 29), entity(34, 37)],
                4 / 6,
                {(1, "tp"): 2, (1, "fp"): 1, (1, "fn"): 1},
            ),
        ],
    )
    def test_counts_places_with_their_labels(
        self,
        predicted: list[dict[str, Any]],
        actual: list[dict[str, Any]],
        f1: float,
        tallies: dict[tuple[int, str], int],
    ) -> None:
        comparison = SCHEMA.compare(predicted, actual)
        same = f1 == 1.0
        assert comparison.equal == same
        assert comparison.metrics == {"span_f1": pytest.approx(f1), "exact": float(same)}
        assert comparison.tallies == tallies

    @given(st.data())
    def test_keeps_its_laws(self, data: st.DataObject) -> None:
        places = [
            entity(start, end, label)
            for start in (0, 3)
            for end in (4, 9)
            for label in ("city", "person")
        ]
        one, other = (data.draw(st.lists(st.sampled_from(places), max_size=5)) for _ in range(2))
        there, back = SCHEMA.compare(one, other), SCHEMA.compare(other, one)
        assert tuple(there.metrics) == SpansSchema.METRICS
        assert there.metrics == back.metrics
        assert 0.0 <= there.metrics["span_f1"] <= 1.0
        assert there.equal == (there.metrics["span_f1"] == 1.0)
        counts = {
            said: sum(n for (_, kind), n in there.tallies.items() if kind == said)
            for said in ("tp", "fp", "fn")
        }
        total = 2 * counts["tp"] + counts["fp"] + counts["fn"]
        assert there.metrics["span_f1"] == (2 * counts["tp"] / total if total else 1.0)
        assert SCHEMA.equal(one, data.draw(st.permutations(one)))


def test_the_documented_definition_is_one() -> None:
    described = SpansSchema.definition_schema()
    assert set(described["properties"]) == {"kind", *SCHEMA.definition()}
