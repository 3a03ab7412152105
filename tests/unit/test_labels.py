from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.labels import (
    MAX_DESCRIPTION,
    MAX_LABELS,
    MAX_NAME,
    Label,
    LabelSet,
    LabelSetError,
    fold,
)

LABELS = LabelSet.of(["Real Estate", "Media", "Télécom"])


class TestRefusedSets:
    @pytest.mark.parametrize(
        ("names", "pointers"),
        [
            ([], [""]),
            (["only"], [""]),  # nothing to choose: every confidence would be 1
            ([f"label {n}" for n in range(MAX_LABELS + 1)], [""]),
            (["a", ""], ["/1/name"]),
            (["a", " \t"], ["/1/name", "/1/name"]),  # blank, and a control character
            (["a", "\N{NO-BREAK SPACE}"], ["/1/name"]),
            (["a", " b"], ["/1/name"]),  # the model's leading space is an alias
            (["a", "b\n"], ["/1/name", "/1/name"]),  # white space around, and a control
            (["a", "x" * (MAX_NAME + 1)], ["/1/name"]),
            (["a", "a"], ["/1/name"]),
            (["Media", "b", "media"], ["/2/name"]),
            (["STRASSE", "Straße"], ["/1/name"]),  # case, by full folding
            (["a b", "a  b"], ["/1/name"]),
            (["a b", "ab"], ["/1/name"]),
            (["a b", "a\N{NO-BREAK SPACE}b"], ["/1/name"]),
            (["caf\u00e9", "cafe\u0301"], ["/1/name"]),  # composed and decomposed
            (["file", "\ufb01le"], ["/1/name"]),  # a ligature
            (["ab", "a\N{ZERO WIDTH SPACE}b"], ["/1/name"]),
            (["a", "b\0"], ["/1/name"]),
            (["a", "b\x1b[0m"], ["/1/name"]),
            (["a", "b\ud800"], ["/1/name"]),
            (["a", "b\N{LINE SEPARATOR}c"], ["/1/name"]),
            (["a", "a", "", "A"], ["/2/name", "/1/name", "/3/name"]),  # every problem at once
        ],
    )
    def test_names_every_problem(self, names: list[str], pointers: list[str]) -> None:
        with pytest.raises(LabelSetError) as caught:
            LabelSet.of(names)
        assert [problem.pointer for problem in caught.value.problems] == pointers

    @pytest.mark.parametrize("description", ["\0", "\ud800", "x" * (MAX_DESCRIPTION + 1)])
    def test_descriptions_too(self, description: str) -> None:
        with pytest.raises(LabelSetError) as caught:
            LabelSet.of([Label("a", description), "b"])
        assert [problem.pointer for problem in caught.value.problems] == ["/0/description"]

    @pytest.mark.parametrize(
        ("rows", "pointer"),
        [
            ([{"name": "a"}, {}], "/1/name"),
            ([{"name": "a"}, {"name": 7}], "/1/name"),
            ([{"name": "a"}, {"name": "b", "description": None}], "/1/description"),
            ([{"name": "a"}, {"name": "b", "colour": "red"}], "/1/colour"),
        ],
    )
    def test_rows_of_another_form(self, rows: list[dict[str, object]], pointer: str) -> None:
        with pytest.raises(LabelSetError) as caught:
            LabelSet.from_rows(rows)
        assert [problem.pointer for problem in caught.value.problems] == [pointer]

    def test_one_label_is_enough_where_that_is_said(self) -> None:
        assert LabelSet.from_rows(["a"], least=1) == LabelSet.of(["a"], least=1)
        with pytest.raises(LabelSetError, match="at least 1 label is needed, 0 given"):
            LabelSet.of([], least=1)
        with pytest.raises(LabelSetError, match="at least 2 labels are needed, 1 given"):
            LabelSet.of(["a"])

    def test_quotes_nothing_of_the_names(self) -> None:
        with pytest.raises(LabelSetError) as caught:
            LabelSet.of(["secret", "SECRET", "secret\0"])
        assert "secret" not in str(caught.value).lower()


class TestLabelSet:
    def test_keeps_order_and_descriptions_through_dicts(self) -> None:
        labels = LabelSet.of([Label("b", "second letter:\n\tnot the first"), "a"])
        assert LabelSet.from_rows(labels.to_dicts()) == labels
        assert labels.names == ("b", "a")
        assert [label.description for label in labels] == ["second letter:\n\tnot the first", ""]
        assert (labels.index("a"), len(labels)) == (1, 2)

    def test_equal_sets_hash_alike(self) -> None:
        assert hash(LabelSet.of(["a", "b"])) == hash(LabelSet.of([Label("a"), Label("b")]))
        assert LabelSet.of(["a", "b"]) != LabelSet.of(["b", "a"])

    def test_an_alias_is_no_name(self) -> None:
        with pytest.raises(KeyError):
            LABELS.index("media")

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("Media", "Media"),
            ("MEDIA", "Media"),
            ("  real estate", "Real Estate"),
            ("TÉLÉCOM", "Télécom"),
            ("Media ", None),  # only spaces before it: that is what tokens bring along
            ("\tMedia", None),
            ("RealEstate", None),
            ("Te\u0301le\u0301com", None),  # decomposed: other bytes, other tokens
            ("Medi", None),
            ("", None),
        ],
    )
    def test_parse(self, text: str, name: str | None) -> None:
        label = LABELS.parse(text)
        assert (label and label.name) == name

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=4))
    def test_what_is_accepted_can_be_told_apart(self, names: list[str]) -> None:
        try:
            labels = LabelSet.of(names)
        except LabelSetError:
            return
        for name in names:
            for alias in (name, f" {name}", fold(name)):
                label = labels.parse(alias)
                assert label is not None
                assert label.name == name

    @settings(max_examples=100, deadline=None)
    @given(st.text())
    def test_folding_keeps_length_and_settles_at_once(self, text: str) -> None:
        assert len(fold(text)) == len(text)
        assert fold(fold(text)) == fold(text)
