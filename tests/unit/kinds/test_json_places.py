from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.answers import find_answer
from app.domain.json_places import Path, Place, find_places
from app.domain.prefixes import value_offset
from app.domain.unknown import Unusable

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    ['"', "\\", "a:b", "{", "é"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(['"', "\\", '\\"', "a]}", "[{,:", "é\U0001f600"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])
AROUND = st.sampled_from(["", "Here it is: é\n```json\n", "<think>no {\x22a\x22: 1}</think>\n"])


def walked(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Every value in a value, by its path."""
    found = {path: value}
    inner: Any = {}
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        found |= walked(each, (*path, key))
    return found


def test_places_by_hand() -> None:
    data = b'x{"a" :true,"b":[ "]\\"", 1 ],"\\u00e9":{}}}'
    assert find_places(data, begin=1) == {
        place.path: place
        for place in (
            Place((), 1, 41, 1, ()),
            Place(("a",), 7, 11, 1, (b"{", b'"a"', b":")),
            Place(("b",), 16, 28, 11, (b",", b'"b"', b":")),
            Place(("b", 0), 18, 23, 16, (b"[",)),
            Place(("b", 1), 25, 26, 23, (b",",)),
            Place(("é",), 38, 40, 28, (b",", b'"\\u00e9"', b":")),
        )
    }


def test_inside_a_string_its_quote_is_layout() -> None:
    place = find_places(b'{"a":"x"}', begin=0)["a",]
    assert (place.start, place.end, place.quoted) == (5, 8, False)
    inside = place.inside()
    assert (inside.start, inside.end, inside.quoted) == (6, 8, True)
    assert inside.layout == (b"{", b'"a"', b":", b'"')


@pytest.mark.parametrize("depth", [1, 900])
def test_nesting_as_deep_as_an_answer_may_have(depth: int) -> None:
    content = '{"a":' + "[" * depth + "]" * depth + "}"
    assert not isinstance(find_answer(content), Unusable)
    places = find_places(content.encode(), begin=0)
    assert len(places) == depth + 1
    assert places["a", *[0] * (depth - 1)].start == 5 + depth - 1


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    SEPARATORS,
    st.sampled_from(["all", "none"]),
    AROUND,
    st.sampled_from(["", "\n```", " That is all. }"]),
)
def test_every_value_stands_where_it_is_said_to(
    value: dict[str, Any], separators: tuple[str, str], escape: str, before: str, after: str
) -> None:
    data = (
        before + json.dumps(value, separators=separators, ensure_ascii=escape == "all") + after
    ).encode()
    places = find_places(data, begin=len(before.encode()))
    values = walked(value)
    assert list(places) == list(values)  # all of them, in the order of the text
    for path, place in places.items():
        assert json.loads(data[place.start : place.end]) == values[path]
        assert place.path == path
        offset = value_offset(data[place.gap :], layout=place.layout)
        assert offset is not None
        assert not data[place.gap + offset : place.start].strip()
