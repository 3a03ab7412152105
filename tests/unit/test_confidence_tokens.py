from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.tokens import (
    CLAMP,
    Alternative,
    Token,
    evidence_from_json,
    evidence_to_json,
    read_tokens,
)
from app.domain.unknown import Unknown, UnknownReason


def entry(text: str, logprob: object = -0.5, **more: Any) -> dict[str, Any]:
    return {"token": text, "bytes": list(text.encode()), "logprob": logprob, **more}


class TestReading:
    def test_a_usual_answer(self) -> None:
        tokens = read_tokens([entry("é", top_logprobs=[entry("é"), entry("x", -3)])], content="é")
        x = Alternative(b"x", -3.0)
        assert tokens == (Token("é".encode(), -0.5, (Alternative("é".encode(), -0.5), x)),)

    def test_bytes_count_not_text(self) -> None:
        halves = [
            {"token": "\ufffd", "bytes": [195], "logprob": -0.1},
            {"token": "\ufffd", "bytes": [169], "logprob": -0.1},
        ]
        tokens = read_tokens(halves, content="é")
        assert isinstance(tokens, tuple)
        assert [token.data for token in tokens] == [b"\xc3", b"\xa9"]

    @pytest.mark.parametrize("more", [{"bytes": None}, {}])
    def test_without_bytes_the_text_stands_in(self, more: dict[str, None]) -> None:
        tokens = read_tokens([{"token": "é", "logprob": -0.5, **more}], content="é")
        assert tokens == (Token("é".encode(), -0.5, ()),)

    @pytest.mark.parametrize("listed", [None, []])
    def test_no_alternatives_are_none(self, listed: list[object] | None) -> None:
        tokens = read_tokens([entry("a", top_logprobs=listed)], content="a")
        assert tokens == (Token(b"a", -0.5, ()),)

    def test_an_impossible_alternative_is_a_clamped_one(self) -> None:
        listed = [entry("b", -math.inf), entry("c", -9999), entry("", 0, bytes=None)]
        tokens = read_tokens([entry("a", top_logprobs=listed)], content="a")
        assert isinstance(tokens, tuple)
        assert [each.logprob for each in tokens[0].alternatives] == [CLAMP, CLAMP, 0.0]
        assert [each.clamped for each in tokens[0].alternatives] == [True, True, False]

    def test_a_lone_surrogate_is_no_part_of_any_content(self) -> None:
        listed = [{"token": "\ud83d", "logprob": -1}]
        tokens = read_tokens([entry("a", top_logprobs=listed)], content="a")
        assert isinstance(tokens, tuple)
        assert tokens[0].alternatives[0].data == b"\xed\xa0\xbd"


class TestUnknown:
    @pytest.mark.parametrize(
        ("logprobs", "reason"),
        [
            (None, UnknownReason.NO_LOGPROBS),
            ([], UnknownReason.NO_LOGPROBS),
            ({}, UnknownReason.MALFORMED_LOGPROBS),
            ("a", UnknownReason.MALFORMED_LOGPROBS),
            (False, UnknownReason.MALFORMED_LOGPROBS),
            ([None], UnknownReason.MALFORMED_LOGPROBS),
            ([["a", -0.5]], UnknownReason.MALFORMED_LOGPROBS),
            ([{}], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", None)], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", "-0.5")], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", False)], UnknownReason.MALFORMED_LOGPROBS),  # no number
            ([entry("a", -(10**400))], UnknownReason.MALFORMED_LOGPROBS),  # beyond any float
            ([{"token": 1, "logprob": -1.0}], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", bytes="a")], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", bytes=[256])], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", bytes=[-1])], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", bytes=[97.0])], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", bytes=97)], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", top_logprobs={"b": -1})], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", top_logprobs=[7])], UnknownReason.MALFORMED_LOGPROBS),
            ([entry("a", math.nan)], UnknownReason.NAN_LOGPROB),
            ([entry("a", top_logprobs=[entry("b", math.nan)])], UnknownReason.NAN_LOGPROB),
            ([entry("a", 0.25)], UnknownReason.POSITIVE_LOGPROB),
            ([entry("a", 1)], UnknownReason.POSITIVE_LOGPROB),
            ([entry("a", math.inf)], UnknownReason.POSITIVE_LOGPROB),
            ([entry("a", 2e-6)], UnknownReason.POSITIVE_LOGPROB),  # more than rounding
            ([entry("a", top_logprobs=[entry("b", 0.5)])], UnknownReason.POSITIVE_LOGPROB),
            ([entry("a", -math.inf)], UnknownReason.INFINITE_LOGPROB),
            ([entry("b")], UnknownReason.BYTES_DIFFER),
            ([entry("a"), entry("a")], UnknownReason.BYTES_DIFFER),
            # As when the thinking before the answer is listed too.
            ([entry("<think>"), entry("a")], UnknownReason.BYTES_DIFFER),
            ([entry("a", bytes=[98])], UnknownReason.BYTES_DIFFER),  # bytes go before text
            ([{"token": "\ufffd", "logprob": -1.0}], UnknownReason.BYTES_DIFFER),
        ],
    )
    def test_has_its_reason(self, logprobs: object, reason: UnknownReason) -> None:
        unknown = read_tokens(logprobs, content="a")
        assert isinstance(unknown, Unknown)
        assert unknown.reason is reason
        assert unknown.detail

    def test_says_which_token(self) -> None:
        unknown = read_tokens([entry("a"), entry("b", math.nan)], content="ab")
        assert isinstance(unknown, Unknown)
        assert unknown.detail == "Token 1: a logprob is NaN"

    @pytest.mark.parametrize("token", ["a", "\ud800"])
    def test_a_content_that_is_no_text(self, token: str) -> None:
        unknown = read_tokens([{"token": token, "logprob": -0.5}], content="\ud800")
        assert isinstance(unknown, Unknown)
        assert unknown.reason is UnknownReason.BYTES_DIFFER


logprobs = st.floats(max_value=0.0, allow_nan=False, allow_infinity=False)
data = st.one_of(st.binary(max_size=4), st.sampled_from([b"\0", b"a\0", "é".encode(), b"\xc3"]))
alternatives = st.lists(st.builds(Alternative, data, logprobs), max_size=3).map(tuple)


class TestEvidence:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.builds(Token, data, logprobs, alternatives), max_size=3).map(tuple))
    def test_comes_back_exactly(self, tokens: tuple[Token, ...]) -> None:
        kept = json.dumps(evidence_to_json(tokens), allow_nan=False)
        assert "\\u0000" not in kept  # PostgreSQL refuses it in JSON
        assert evidence_from_json(json.loads(kept)) == tokens

    def test_is_compact(self) -> None:
        tokens = [Token(b"Real", -0.25, (Alternative(b"\xc3", -1.5), Alternative(b"T", -9.0)))]
        assert evidence_to_json(tokens) == [["Real", -0.25, [{"base64": "ww=="}, -1.5, "T", -9.0]]]

    @pytest.mark.parametrize("kept", [[["a", -1.0]], [["a", -1.0, ["b"]]], [[None, -1.0, []]], [7]])
    def test_what_was_not_written_here_is_refused(self, kept: list[Any]) -> None:
        with pytest.raises((ValueError, TypeError)):
            evidence_from_json(kept)
