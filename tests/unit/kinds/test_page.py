"""Every example of docs/kinds.md is what the code takes, and every kind has its examples there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.domain.confidence import Token
from app.domain.kinds import KINDS, parse_schema
from app.domain.kinds.base import LabelSchema, Score
from app.domain.kinds.regions.score import score_of_regions
from app.domain.tokens import Alternative

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "kinds.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
EXAMPLE = re.compile(r"^(\w+):\n\n```(json|text)\n(.*?)\n```$", re.DOTALL | re.MULTILINE)


def example(kind: str, name: str) -> str:
    """The text of an example in the section of a kind."""
    (text,) = [text for title, _, text in EXAMPLE.findall(SECTIONS[kind]) if title == name]
    return str(text)


def schema_of(kind: str) -> LabelSchema:
    definition = json.loads(example(kind, "Definition"))
    assert definition["kind"] == kind
    return parse_schema(definition)


def item_of(kind: str) -> str:
    return example(kind, "Item") if schema_of(kind).NEEDS_TEXT else "An item."


def value_of(kind: str) -> Any:
    return json.loads(example(kind, "Value"))


def test_every_kind_has_a_section_and_a_row_and_every_block_is_an_example() -> None:
    assert list(SECTIONS) == [*dict.fromkeys(re.findall(r"^\| \[`(\w+)`\]", PAGE, re.MULTILINE))]
    assert set(SECTIONS) == set(KINDS)
    assert PAGE.count("```") == 2 * len(EXAMPLE.findall(PAGE))


@pytest.mark.parametrize("kind", KINDS)
class TestSection:
    def test_its_value_is_accepted_as_it_stands(self, kind: str) -> None:
        schema, value = schema_of(kind), value_of(kind)
        assert schema.accept(value, text=item_of(kind)) == value
        assert schema.decode(schema.encode(value)) == value
        assert schema.equal(value, value)

    def test_its_answer_gives_its_value(self, kind: str) -> None:
        schema = schema_of(kind)
        if not schema.ASKED:
            assert "Answer:" not in SECTIONS[kind]
            return
        text = item_of(kind)
        assert schema.read(example(kind, "Answer"), text=text) == value_of(kind)
        # and so does the form in which models are shown it
        assert schema.read(schema.answer(value_of(kind)), text=text) == value_of(kind)

    def test_it_names_every_metric_and_measure(self, kind: str) -> None:
        schema = schema_of(kind)
        for name in (*schema.METRICS, *schema.PART_MEASURES):
            assert f"`{name}`" in SECTIONS[kind]
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| [`{kind}`]"))
        assert row.split("|")[4].strip() == f"`{schema.METRICS[0]}`"
        assert ("decisions" in row) is (schema.decision_questions() is not None)

    def test_its_parts_are_those_it_speaks_of(self, kind: str) -> None:
        schema, value = schema_of(kind), value_of(kind)
        content = example(kind, "Answer") if schema.ASKED else ""
        token = Token(content.encode(), -0.1, (Alternative(b"x", -3.0),))
        score = (
            schema.score((token,), content=content, begin=0, value=value, text=item_of(kind))
            if schema.ASKED
            else score_of_regions(value)
        )
        assert isinstance(score, Score), score
        several = {"multi_choice": 3, "fields": 6, "spans": 4, "regions": 2}
        assert len(score.parts) == several.get(kind, 0)
        if score.parts:
            assert score.confidence == min(part.confidence for part in score.parts)
