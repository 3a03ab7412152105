"""A stated probability is read strictly: what is none is no answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import stated
from app.domain.kinds import parse_schema
from app.domain.kinds.base import LabelSchema
from app.domain.stated import Stated, Stating
from app.domain.unknown import UnknownReason, Unusable

SINGLE = parse_schema({"kind": "single_choice", "labels": ["spam", "ham"]})
TEXT = parse_schema({"kind": "text"})


@pytest.mark.parametrize(
    ("content", "schema", "value", "confidence"),
    [
        ('{"answer": {"label": "spam"}, "confidence": 0.85}', SINGLE, "spam", 0.85),
        ('{"confidence": 1, "answer": {"label": "ham"}}', SINGLE, "ham", 1.0),
        ('Sure:\n```json\n{"answer":{"label":"ham"},"confidence":0}\n```', SINGLE, "ham", 0.0),
        ('{"answer": "a summary", "confidence": 0.5}', TEXT, "a summary", 0.5),
    ],
)
def test_an_answer_says_a_value_and_how_sure(
    content: str, schema: LabelSchema, value: str, confidence: float
) -> None:
    assert stated.read(content, schema=schema, text="") == Stated(value, confidence)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"label": "spam"}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}, "confidence": "high"}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}, "confidence": "0.9"}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}, "confidence": 95}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}, "confidence": -0.1}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}, "confidence": NaN}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}, "confidence": true}', UnknownReason.WRONG_SHAPE),
        ('{"answer": {"label": "spam"}, "confidence": 1, "why": 1}', UnknownReason.WRONG_SHAPE),
        ('{"answer": "spam", "confidence": 1}', UnknownReason.WRONG_SHAPE),
        (
            '{"answer": {"label": "eggs"}, "confidence": 1}',
            UnknownReason.LABEL_OUTSIDE_SCHEMA,
        ),
        ('{"answer": {"label": "spa', UnknownReason.TRUNCATED),
        # the object within is one, but not the one that was asked for
        ('{"answer": {"label": "spam"}, "confi', UnknownReason.WRONG_SHAPE),
        ("spam, I am sure", UnknownReason.NOT_JSON),
    ],
)
def test_anything_else_is_no_answer(content: str, reason: UnknownReason) -> None:
    read = stated.read(content, schema=SINGLE, text="")
    assert isinstance(read, Unusable)
    assert read.reason is reason


@given(confidence=st.floats(0, 1))
def test_log_odds_are_finite_and_keep_the_order(confidence: float) -> None:
    logit = Stated("spam", confidence).score.logit
    assert math.isfinite(logit)
    assert logit <= Stated("spam", min(1.0, confidence + 1e-3)).score.logit


def test_what_a_schema_defines_is_defined_for_the_whole() -> None:
    class Defining:
        def answer_schema(self) -> dict[str, object]:
            return {
                "type": "object",
                "$defs": {"a": {}},
                "properties": {"b": {"$ref": "#/$defs/a"}},
            }

    schema = Stating(Defining()).answer_schema()  # type: ignore[arg-type]  # all that is asked of it
    assert schema["$defs"] == {"a": {}}
    assert "$defs" not in schema["properties"]["answer"]
