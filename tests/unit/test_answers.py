from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.answers import FoundAnswer, decode_answer, find_answer
from app.domain.unknown import UnknownReason, Unusable

ANSWER = '{"label":"Média {x}"}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("\n ", "\n"),
        ("```json\n", "\n```"),
        ("Sure! Here it is: ", "\n\nLet me know."),
        ('<think>\n{maybe} this? {"label":"no"}\n</think>\n', ""),
        ('it was thought before {"label":"no"} </think>', ""),
        ("é ü ", " ö"),
        ("\ufeff", ""),
        ("a } or a { alone ", ""),
    ],
)
def test_the_only_object_is_found_at_its_place(before: str, after: str) -> None:
    found = find_answer(before + ANSWER + after)
    assert isinstance(found, FoundAnswer)
    assert found.text == ANSWER
    assert found.begin == len(before.encode())
    assert decode_answer(found.text) == {"label": "Média {x}"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{ANSWER}{ANSWER}", UnknownReason.NOT_JSON),
        (f"either {ANSWER} or {ANSWER}", UnknownReason.NOT_JSON),
        (f"<think>{ANSWER}", UnknownReason.TRUNCATED),
        ("<think>done</think>  ", UnknownReason.EMPTY_ANSWER),
        (f"[{ANSWER}]", UnknownReason.WRONG_SHAPE),
        ('{"a":1,"a":2}', UnknownReason.WRONG_SHAPE),
        ('{"a":{"b":1,"b":2}}', UnknownReason.WRONG_SHAPE),
        ('{"a":"b', UnknownReason.TRUNCATED),
        ('{"a":', UnknownReason.TRUNCATED),
        ("{" * 100_000, UnknownReason.NOT_JSON),
        ('{"a":' * 100_000, UnknownReason.NOT_JSON),
        ("no answer at all", UnknownReason.NOT_JSON),
    ],
)
def test_anything_else_has_its_reason(content: str, reason: UnknownReason) -> None:
    found = find_answer(content)
    assert isinstance(found, Unusable)
    assert found.reason is reason


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_characters="{}[]", exclude_categories=["Cs"])),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), min_size=1),
    st.text(st.characters(exclude_characters="{}[]", exclude_categories=["Cs"])),
)
def test_prose_around_it_changes_nothing(before: str, value: dict[str, object], after: str) -> None:
    if "</think>" in before + after or before.lstrip().startswith("<think>"):
        return
    answer = json.dumps(value)
    found = find_answer(before + answer + after)
    assert found == FoundAnswer(answer, len(before.encode()))


@given(st.text())
def test_no_text_is_a_crash(content: str) -> None:
    assert isinstance(find_answer(content), FoundAnswer | Unusable)
