from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.answers import find_answer
from app.domain.kinds.single_choice import SingleChoiceSchema
from app.domain.labels import LabelSet
from app.domain.unknown import UnknownReason, Unusable

LABELS = LabelSet.of(["Real Estate", "Media", "Télécom"])
SCHEMA = SingleChoiceSchema(LABELS)


def read(content: str) -> str | Unusable:
    found = find_answer(content)
    return found if isinstance(found, Unusable) else SCHEMA.read(found.text, text="")


class TestSchema:
    def test_is_strict_and_closed(self) -> None:
        assert SCHEMA.answer_schema() == {
            "type": "object",
            "properties": {
                "label": {"type": "string", "enum": ["Real Estate", "Media", "Télécom"]}
            },
            "required": ["label"],
            "additionalProperties": False,
        }

    @pytest.mark.parametrize(
        "content",
        [
            '{"label":"Télécom"}',
            '{"label":"T\\u00e9l\\u00e9com"}',
            '\n{\n  "label" : " télécom"\n}\n',
        ],
    )
    def test_reads_a_label_as_the_set_spells_it(self, content: str) -> None:
        assert read(content) == "Télécom"

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", UnknownReason.EMPTY_ANSWER),
            (" \n", UnknownReason.EMPTY_ANSWER),
            ('{"label":"Med', UnknownReason.TRUNCATED),
            ('{"label":"Media"', UnknownReason.TRUNCATED),
            ("{", UnknownReason.TRUNCATED),
            ("Media", UnknownReason.NOT_JSON),
            ("The label is Media.", UnknownReason.NOT_JSON),
            ('{"label":"Media"}{"label":"Media"}', UnknownReason.NOT_JSON),
            ("<html><body>502</body></html>", UnknownReason.NOT_JSON),
            ("{'label':'Media'}", UnknownReason.NOT_JSON),
            ("[" * 100_000, UnknownReason.NOT_JSON),  # deeper than the parser goes
            ("9" * 5_000, UnknownReason.NOT_JSON),  # longer than an integer may be
            ('"Media"', UnknownReason.WRONG_SHAPE),
            ("null", UnknownReason.WRONG_SHAPE),
            ("{}", UnknownReason.WRONG_SHAPE),
            ('["label","Media"]', UnknownReason.WRONG_SHAPE),
            ('[["label","Media"]]', UnknownReason.WRONG_SHAPE),  # looks like an object's pairs
            ('{"label":1}', UnknownReason.WRONG_SHAPE),
            ('{"label":NaN}', UnknownReason.WRONG_SHAPE),
            ('{"label":null}', UnknownReason.WRONG_SHAPE),
            ('{"label":["Media"]}', UnknownReason.WRONG_SHAPE),
            ('{"Label":"Media"}', UnknownReason.WRONG_SHAPE),
            ('{"label":"Media","why":"it is"}', UnknownReason.WRONG_SHAPE),
            ('{"label":"Media","label":"Media"}', UnknownReason.WRONG_SHAPE),
            ('{"label":"Sports"}', UnknownReason.LABEL_OUTSIDE_SCHEMA),
            ('{"label":"Media\\ud800"}', UnknownReason.LABEL_OUTSIDE_SCHEMA),
            ('{"label":""}', UnknownReason.LABEL_OUTSIDE_SCHEMA),
        ],
    )
    def test_an_unusable_answer_has_its_reason(self, content: str, reason: UnknownReason) -> None:
        answer = read(content)
        assert isinstance(answer, Unusable)
        assert answer.reason is reason
        assert "Media" not in answer.detail

    @settings(max_examples=80, deadline=None)
    @given(
        st.one_of(
            st.text(),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=5,
            ).map(json.dumps),
        )
    )
    def test_reads_anything_without_an_exception(self, content: str) -> None:
        assert isinstance(read(content), str | Unusable)
