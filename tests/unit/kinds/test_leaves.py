"""One value of an answer: by hand, against models whose every probability is known, and anyhow."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.confidence import ChoiceScore, score_choice
from app.domain.json_places import Path, Place, find_places
from app.domain.labels import LabelSet
from app.domain.leaves import LeafScore, Spelling, closed_choice, closed_leaf, open_leaf
from app.domain.literals import BOOLEAN, Literals
from app.domain.tokens import Alternative, Token
from app.domain.unknown import Unknown, UnknownReason
from tests.support.answer_tokens import (
    Others,
    answer_tokens,
    content_of,
    cuts,
    scored,
    token,
    tokens,
)

LABELS = LabelSet.of(["ship", "shipping", "Télécom"])
YES_NO_NULL = Literals([True, False, None])
LABEL_OR_NULL = Literals([None], strings=LABELS.names)
NULL_OR_TEXT = Literals([None], openings=b'"')
NULL_OR_NUMBER = Literals([None], openings=b"-0123456789")


def known(score: LeafScore | ChoiceScore | Unknown) -> Any:
    assert not isinstance(score, Unknown), score
    return score


def found(spelled: Sequence[Token], *path: str | int) -> tuple[Spelling, Place]:
    data = content_of(spelled).encode()
    return Spelling(spelled, data), find_places(data, begin=0)[path]


def closed(
    *pieces: Token | str, among: LabelSet | Literals, value: str | bool | None
) -> ChoiceScore | Unknown:
    """The score of the field `a`."""
    return closed_choice(*found(tokens(*pieces), "a"), among=among, value=value)


def opened(*pieces: Token | str, inside: bool = False) -> LeafScore | Unknown:
    """The score of the field `a`."""
    spelling, place = found(tokens(*pieces), "a")
    return open_leaf(spelling, place.inside() if inside else place)


def odds(p: float) -> float:
    return math.log(p) - math.log(1 - p)


class TestClosed:
    def test_a_yes_by_hand(self) -> None:
        score = known(
            closed(
                '{"a":',
                token(" true", 0.8, {" false": 0.1, "false": 0.02, " True": 0.05, " maybe": 0.01}),
                "}",
                among=BOOLEAN,
                value=True,
            )
        )
        assert [each.label for each in score.masses] == ["true", "false"]
        assert [each.mass for each in score.masses] == pytest.approx([0.85, 0.12])
        assert score.off_label == pytest.approx(0.01)
        assert score.p_raw == pytest.approx(0.8)
        assert score.p_norm == pytest.approx(0.85 / 0.97)
        assert score.confidence == pytest.approx(0.85 / 0.98)
        assert score.logit == pytest.approx(odds(0.85 / 0.98))

    def test_a_yes_in_pieces_is_told_from_no_by_the_first(self) -> None:
        score = known(
            closed(
                '{"a":',
                token("t", 0.9, {"f": 0.1}),
                token("rue", 0.5, {"raw": 0.5}),  # neither: doubt whether it is either
                "}",
                among=BOOLEAN,
                value=True,
            )
        )
        assert score.p_raw == pytest.approx(0.45)
        assert score.p_norm == pytest.approx(0.45 / 0.55)
        assert score.off_label == pytest.approx(0.45)
        assert score.confidence == pytest.approx(0.45)

    def test_what_no_value_begins_with_may_go_on_with_one(self) -> None:
        for _ in range(2):  # what is known of the one is not taken for the other
            score = known(
                closed(
                    '{"a":',
                    token("t", 0.9, {"RUE": 0.1}),
                    token("rue", 0.7, {"RUE": 0.3}),
                    "}",
                    among=BOOLEAN,
                    value=True,
                )
            )
            assert score.off_label == pytest.approx(0.1)
            assert score.masses[0].mass == pytest.approx(0.9)

    def test_the_logit_is_that_of_the_share(self) -> None:
        score = known(
            closed('{"a":', token("true", 0.8, {"false": 0.2}), "}", among=BOOLEAN, value=True)
        )
        assert score.logit == pytest.approx(odds(0.8))

    @pytest.mark.parametrize(
        ("among", "other", "expected"),
        [
            (BOOLEAN, "f", "false"),
            (BOOLEAN, "FALSE", "false"),
            (BOOLEAN, "\n  false,", "false"),
            (BOOLEAN, "false}", "false"),
            (BOOLEAN, "false]", "false"),
            (BOOLEAN, "falsehood", "off_label"),
            (BOOLEAN, 'false"', "off_label"),
            (BOOLEAN, '"false"', "off_label"),  # a string
            (BOOLEAN, "null", "off_label"),
            (BOOLEAN, "0", "off_label"),
            (BOOLEAN, " ", "ambiguous"),
            (BOOLEAN, "", "ambiguous"),
            (BOOLEAN, "\xff", "off_label"),
            (YES_NO_NULL, "nul", "null"),
            (YES_NO_NULL, "f", "false"),
            (LABEL_OR_NULL, ' "', "ambiguous"),
            (LABEL_OR_NULL, '"s', "ambiguous"),
            (LABEL_OR_NULL, '"ship"', '"ship"'),
            (LABEL_OR_NULL, '" SHIPP', '"shipping"'),
            (LABEL_OR_NULL, '"T\\u00e9', '"Télécom"'),
            (LABEL_OR_NULL, '"x', "off_label"),
            (LABEL_OR_NULL, "true", "off_label"),
            (NULL_OR_TEXT, '"', "..."),
            (NULL_OR_TEXT, '"null"', "..."),
            (NULL_OR_TEXT, "7", "off_label"),
            (NULL_OR_TEXT, "[", "off_label"),
            (NULL_OR_NUMBER, "-", "..."),
            (NULL_OR_NUMBER, " 7", "..."),
            (NULL_OR_NUMBER, '"', "off_label"),
        ],
    )
    def test_where_an_alternative_goes(self, among: Literals, other: str, expected: str) -> None:
        value = True if "true" in among.names else None
        sampled = json.dumps(value)
        score = known(
            closed('{"a":', token(sampled, 0.7, {other: 0.3}), "}", among=among, value=value)
        )
        masses = {each.label: each.mass for each in score.masses}
        shares = {**masses, "ambiguous": score.ambiguous, "off_label": score.off_label}
        assert shares.pop(expected) == pytest.approx(0.3)
        assert shares.pop(sampled) == pytest.approx(0.7)
        assert set(shares.values()) == {0.0}

    def test_a_null_in_place_of_one_of_the_labels(self) -> None:
        score = known(
            closed(
                '{"a":',
                token("null", 0.6, {'"': 0.3, '"ship': 0.1}),
                "}",
                among=LABEL_OR_NULL,
                value=None,
            )
        )
        assert score.p_norm == pytest.approx(0.6)

    def test_a_label_that_could_be_null_is_told_from_its_quote_on(self) -> None:
        pieces: list[Token | str] = [
            '{"a":',
            token('"', 0.9, {"null": 0.1}),
            token("T", 0.8, {"s": 0.2}),
            'élécom"}',
        ]
        with_null = known(closed(*pieces, among=LABEL_OR_NULL, value="Télécom"))
        assert with_null.p_norm == pytest.approx(0.72)
        without = known(closed(*pieces, among=LABELS, value="Télécom"))
        assert without.p_norm == pytest.approx(0.8)

    @pytest.mark.parametrize(
        ("other", "expected"),
        [
            ('"a":false', "false"),
            ('"a": false', "false"),
            ('"a"', "ambiguous"),  # what follows may be either
            ('"b":false', "off_label"),  # another field
            ('"a":"', "off_label"),
        ],
    )
    def test_an_alternative_in_the_layout_is_read_from_there_on(
        self, other: str, expected: str
    ) -> None:
        score = known(
            closed("{", token('"a":true', 0.7, {other: 0.3}), "}", among=BOOLEAN, value=True)
        )
        masses = {each.label: each.mass for each in score.masses}
        shares = {**masses, "ambiguous": score.ambiguous, "off_label": score.off_label}
        assert shares[expected] == pytest.approx(0.3)

    @pytest.mark.parametrize(
        ("other", "expected"),
        [
            ('true,"a":false', "false"),
            ('true, "a" :false}', "false"),
            ("true}", "off_label"),
            ('false,"a":true', "ambiguous"),  # parts at another value: tells nothing of this one
            ("false", "ambiguous"),
        ],
    )
    def test_a_token_of_two_values_counts_for_both(self, other: str, expected: str) -> None:
        pieces: list[Token | str] = ['{"b":', token('true,"a":true', 0.7, {other: 0.3}), "}"]
        score = known(closed(*pieces, among=BOOLEAN, value=True))
        masses = {each.label: each.mass for each in score.masses}
        shares = {**masses, "ambiguous": score.ambiguous, "off_label": score.off_label}
        assert shares[expected] == pytest.approx(0.3)
        spelling, place = found(tokens(*pieces), "b")
        both = [
            known(closed_leaf(spelling, each, among=BOOLEAN, value=True))
            for each in (place, find_places(spelling.data, begin=0)["a",])
        ]
        assert spelling.p_raw(both) == pytest.approx(0.7)  # once

    @pytest.mark.parametrize(
        ("sampled", "reason"),
        [
            (token("true", 1.0), UnknownReason.NO_ALTERNATIVES),
            (token("true", 0.9), UnknownReason.NO_ALTERNATIVES),
            (token("true", 1.0, {}), UnknownReason.NO_ALTERNATIVES),
            (token("true", 1.0, {"false": 0.0}), UnknownReason.NO_ALTERNATIVES),
            (token("true", 0.0, {"false": 0.1}), UnknownReason.CLAMPED_LOGPROB),
            (token("true", 0.9, {"false": 0.2}), UnknownReason.NOT_A_DISTRIBUTION),
        ],
    )
    def test_fails_closed(self, sampled: Token, reason: UnknownReason) -> None:
        score = closed('{"a":', sampled, "}", among=BOOLEAN, value=True)
        assert isinstance(score, Unknown)
        assert score.reason is reason

    def test_saturated_answers_still_have_their_rank(self) -> None:
        doubts = [1e-17, 1e-18, 1e-200]
        leaves = [
            known(
                closed(
                    '{"a":',
                    Token(b"true", 0.0, (Alternative(b"false", math.log(doubt)),)),
                    "}",
                    among=BOOLEAN,
                    value=True,
                )
            )
            for doubt in doubts
        ]
        assert [leaf.confidence for leaf in leaves] == [1.0] * 3
        assert [leaf.logit for leaf in leaves] == pytest.approx(
            [-math.log(each) for each in doubts]
        )

    def test_a_mass_too_small_for_a_float_is_unknown(self) -> None:
        """Scaled back for rounding twice it is 0, where the sum of the logprobs is not."""
        others = (Alternative(b"x", math.log(1.0099)),)
        halves = [Token(each, -745.12 / 2, others) for each in (b"t", b"rue")]
        assert math.exp(-745.12) > 0.0
        score = closed('{"a":', *halves, "}", among=BOOLEAN, value=True)
        assert isinstance(score, Unknown)
        assert score.reason is UnknownReason.CLAMPED_LOGPROB


class TestOpen:
    def test_a_text_by_hand(self) -> None:
        pieces: list[Token | str] = [
            '{"a":',
            token('"', 0.9, {"null": 0.1}),
            token("Pa", 0.8, {"Lo": 0.2}),
            token('ris"', 0.5, {'ris,"': 0.5}),
            token("}", 0.1, {",": 0.9}),  # layout
        ]
        inside = known(opened(*pieces, inside=True))
        assert inside.confidence == pytest.approx(0.4)
        assert inside.logit == pytest.approx(odds(0.4))
        assert inside.log_p_raw == pytest.approx(math.log(0.4))
        assert list(inside.tokens) == [2, 3]
        nullable = known(opened(*pieces))
        assert nullable.confidence == pytest.approx(0.36)
        assert list(nullable.tokens) == [1, 2, 3]

    @pytest.mark.parametrize(
        ("sampled", "others", "expected"),
        [
            # other white space before the value is the same answer
            (': "x"', {':"x"': 0.3}, 0.9),
            (':"x"', {': "x"': 0.3}, 0.9),
            # in the string it is not
            (': "x"', {': " x"': 0.3}, 0.6),
            (': "x"', {':"y"': 0.3}, 0.6),
            (': "x"', {":": 0.3}, 0.6),
            (': "x"', {'} "x"': 0.3}, 0.6),
        ],
    )
    def test_layout_alone_is_no_doubt(self, sampled: str, others: Others, expected: float) -> None:
        for inside in (False, True):
            score = known(opened('{"a"', token(sampled, 0.6, others), "}", inside=inside))
            assert score.confidence == pytest.approx(expected)
            assert score.logit == pytest.approx(odds(expected))
            assert score.log_p_raw == pytest.approx(math.log(0.6))  # the very tokens

    @pytest.mark.parametrize(
        ("end", "expected"),
        [
            (token("}", 0.7, {"0": 0.3}), 0.8 * 0.7),
            (token("}", 0.7, {".5": 0.2, "e3": 0.1}), 0.8 * 0.7),
            (token("}", 0.7, {"\n}": 0.3}), 0.8),  # it ends either way
            (token("}", 0.35, {"\n}": 0.35, "0": 0.3}), 0.8 * 0.7),
            (token("}", 1.0), 0.8),  # nothing listed
            (token("}", 0.0, {"0": 0.0}), 0.8),  # the layout may be forced on the model
        ],
    )
    def test_a_number_might_have_gone_on(self, end: Token, expected: float) -> None:
        score = known(opened('{"a":', token("4", 0.8, {"5": 0.2}), "", end))
        assert score.confidence == pytest.approx(expected)
        assert score.logit == pytest.approx(odds(expected))

    def test_a_text_that_begins_with_a_digit_is_no_number(self) -> None:
        pieces: list[Token | str] = [
            '{"a":"',
            token("7", 0.8, {"8": 0.2}),
            '"',
            token("}", 0.5, {"0": 0.5}),
        ]
        assert known(opened(*pieces, inside=True)).confidence == pytest.approx(0.8)

    def test_a_number_of_which_only_the_end_is_told(self) -> None:
        told = known(opened('{"a":', "7", token("}", 0.6, {"0": 0.4})))
        assert told.confidence == pytest.approx(0.6)
        clamped = opened('{"a":', "7", token("}", 1.0, {"0": 0.0}))
        assert isinstance(clamped, Unknown)
        assert clamped.reason is UnknownReason.NO_ALTERNATIVES

    def test_a_number_that_its_last_token_ends(self) -> None:
        score = known(opened('{"a":', token("4}", 0.8, {"40": 0.2})))
        assert score.confidence == pytest.approx(0.8)

    def test_a_list_is_all_between_its_brackets(self) -> None:
        score = known(
            opened(
                '{"a":',
                token("[", 0.9, {"[]": 0.1}),
                token("1", 0.8, {"2": 0.2}),
                token(",", 0.7, {"]": 0.3}),
                "2",
                token("]", 0.6, {",": 0.4}),
                "}",
            )
        )
        assert score.confidence == pytest.approx(0.9 * 0.8 * 0.7 * 0.6)

    @pytest.mark.parametrize(
        ("sampled", "reason"),
        [
            (token("x", 1.0), UnknownReason.NO_ALTERNATIVES),
            (token("x", 1.0, {}), UnknownReason.NO_ALTERNATIVES),
            (token("x", 1.0, {"y": 0.0}), UnknownReason.NO_ALTERNATIVES),
            (token("x", 0.0), UnknownReason.CLAMPED_LOGPROB),
            (token("x", 0.0, {"y": 0.3}), UnknownReason.CLAMPED_LOGPROB),
            (token("x", 0.9, {"y": 0.2}), UnknownReason.NOT_A_DISTRIBUTION),
        ],
    )
    def test_fails_closed(self, sampled: Token, reason: UnknownReason) -> None:
        score = opened('{"a":"', sampled, '"}', inside=True)
        assert isinstance(score, Unknown)
        assert score.reason is reason

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (token("}", 0.0, {"0": 0.3}), UnknownReason.CLAMPED_LOGPROB),
            (token("}", 0.9, {"0": 0.3}), UnknownReason.NOT_A_DISTRIBUTION),
        ],
    )
    def test_a_number_whose_end_can_not_be_told(self, end: Token, reason: UnknownReason) -> None:
        score = opened('{"a":', token("4", 0.8, {"5": 0.2}), end)
        assert isinstance(score, Unknown)
        assert score.reason is reason

    def test_logprobs_without_alternatives_are_enough_below_0(self) -> None:
        score = known(opened('{"a":"', token("x", 0.9), '"}', inside=True))
        assert score.confidence == pytest.approx(0.9)

    def test_saturated_answers_still_have_their_rank(self) -> None:
        doubts = [1e-16, 1e-17, 1e-18, 1e-200]
        leaves = [
            known(
                opened(
                    '{"a":"',
                    Token(b"x", 0.0, (Alternative(b"y", math.log(doubt)),)),
                    '"}',
                    inside=True,
                )
            )
            for doubt in doubts
        ]
        assert [leaf.confidence for leaf in leaves] == [1.0] * 4
        assert [leaf.logit for leaf in leaves] == pytest.approx(
            [-math.log(each) for each in doubts]
        )

    def test_a_text_too_long_for_a_float_is_a_confidence_of_0_with_its_rank(self) -> None:
        logits = []
        for size in (1_000, 1_001):
            score = known(
                opened('{"a":"', *[token("x", 0.3, {"y": 0.7})] * size, '"}', inside=True)
            )
            assert score.confidence == 0.0
            assert score.log_p_raw == pytest.approx(size * math.log(0.3))
            logits.append(score.logit)
        assert logits[0] > logits[1] > -math.inf


# Models whose every probability is known: answers with weights, cut into tokens alike.

CUTTERS: Mapping[str, Any] = {
    "by byte": lambda text: [bytes([each]) for each in text.encode()],
    "by piece": lambda text: [each.data for each in answer_tokens(text)],
    # `{"`, `b"`, `:true,"`, `n"`, …: tokens that begin in the layout and end behind the value
    "by quote": lambda text: (
        [f'{each}"'.encode() for each in text.split('"')[:-1]] + [text.split('"')[-1].encode()]
    ),
}
SAID = st.fixed_dictionaries(
    {
        "b": st.booleans(),
        "n": st.sampled_from([5, 50, 505, -5, 5.5]),
        "s": st.sampled_from(["", "a", "ab", "b", "é"]),
        "m": st.sampled_from([None, "a", "null"]),
        "c": st.sampled_from(["ship", "shipping", "Télécom"]),
    }
)
MODELS = st.dictionaries(
    SAID.map(json.dumps), st.integers(1, 50).map(Fraction), min_size=2, max_size=8
)


class TestAgainstModels:
    @settings(max_examples=150, deadline=None)
    @given(MODELS, st.sampled_from(sorted(CUTTERS)), st.data())
    def test_the_confidence_is_what_the_model_gives_the_value(
        self, model: dict[str, Fraction], cutter: str, data: st.DataObject
    ) -> None:
        answers = {tuple(CUTTERS[cutter](text)): weight for text, weight in model.items()}
        chosen = data.draw(st.sampled_from(sorted(answers)))
        spelling, places = spelled(chosen, answers)
        value = json.loads(spelling.data)
        for name, among in {"b": BOOLEAN, "n": None, "s": None, "m": None, "c": LABELS}.items():
            place = places[name,]
            if among is not None or value[name] is None:
                score = closed_leaf(spelling, place, among=among or NULL_OR_TEXT, value=value[name])
            else:
                score = open_leaf(spelling, place.inside() if name == "s" else place)
            start = (place if name in "bnm" else place.inside()).start
            truth = given_what_came_before(answers, chosen, name, start)
            if truth == 1 and isinstance(score, Unknown):
                assert score.reason is UnknownReason.NO_ALTERNATIVES
                continue
            assert isinstance(score, LeafScore)
            if among is LABELS and truth < 1:
                # "ship" against "shipping" is ambiguous for as long as either is possible
                assert score.confidence <= float(truth) + 1e-9
                continue
            assert score.confidence == pytest.approx(float(truth), rel=1e-9, abs=1e-7)
            if 0 < truth < 1:
                assert score.logit == pytest.approx(
                    math.log(truth) - math.log(1 - truth), rel=1e-6, abs=1e-6
                )


def spelled(
    chosen: tuple[bytes, ...], answers: Mapping[tuple[bytes, ...], Fraction]
) -> tuple[Spelling, dict[Path, Place]]:
    made = []
    for position, piece in enumerate(chosen):
        following: Counter[bytes] = Counter()
        for answer, weight in answers.items():
            if answer[:position] == chosen[:position]:
                following[answer[position]] += weight  # type: ignore[assignment]
        total = sum(following.values())
        listed = {each: math.log(Fraction(mass) / total) for each, mass in following.items()}
        made.append(
            Token(piece, listed[piece], tuple(Alternative(*each) for each in listed.items()))
        )
    data = b"".join(chosen)
    return Spelling(made, data), find_places(data, begin=0)


def given_what_came_before(
    answers: Mapping[tuple[bytes, ...], Fraction], chosen: tuple[bytes, ...], name: str, start: int
) -> Fraction:
    """The share of the chosen answer's value among the answers alike up to its first token."""
    before = end = 0
    for position, piece in enumerate(chosen):
        end += len(piece)
        if end > start:
            before = position
            break
    alike = {a: w for a, w in answers.items() if a[:before] == chosen[:before]}
    said = json.loads(b"".join(chosen))[name]
    right = sum(w for a, w in alike.items() if json.loads(b"".join(a))[name] == said)
    return Fraction(right) / sum(alike.values())


CONTENT = '{"a": true, "b":"shipping" ,"c": "x\\"é", "d":[1, "y"],"e":-12.5,"f":null}'
DATA = CONTENT.encode()
PLACES = find_places(DATA, begin=0)
POOL = [
    b"",
    b" ",
    b"t",
    b"true",
    b" false",
    b"false,",
    b"null",
    b'"',
    b'"s',
    b"ship",
    b'ship"',
    b"pping",
    b"\xc3",
    b"\\",
    b"\xff",
    b"5",
    b".",
    b"]",
    b"}",
    b'{"a":false',
    b', "b":"ship"',
]


# the values and the layout around them: where each begins and ends, and whether it is a value
BORDERS = [at for name in "abcdef" for at in (PLACES[name,].start, PLACES[name,].end)]
STRETCHES = [
    (start, end, bool(index % 2))
    for index, (start, end) in enumerate(pairwise([0, *BORDERS, len(DATA)]))
]


def leaves(made: Sequence[Token]) -> dict[str, LeafScore | Unknown]:
    spelling = Spelling(made, DATA)
    return {
        "a": closed_leaf(spelling, PLACES["a",], among=YES_NO_NULL, value=True),
        "b": closed_leaf(spelling, PLACES["b",], among=LABELS, value="shipping"),
        "b?": closed_leaf(spelling, PLACES["b",], among=LABEL_OR_NULL, value="shipping"),
        "c": open_leaf(spelling, PLACES["c",].inside()),
        "c?": open_leaf(spelling, PLACES["c",]),
        "d": open_leaf(spelling, PLACES["d",]),
        "e": open_leaf(spelling, PLACES["e",]),
        "f": closed_leaf(spelling, PLACES["f",], among=NULL_OR_TEXT, value=None),
    }


class TestCutAnywhere:
    @settings(max_examples=120, deadline=None)
    @given(cuts(DATA).flatmap(lambda pieces: scored(pieces, POOL)))
    def test_the_bounds_hold(self, made: list[Token]) -> None:
        for name, leaf in leaves(made).items():
            if isinstance(leaf, Unknown):
                assert leaf.reason in {
                    UnknownReason.NO_ALTERNATIVES,
                    UnknownReason.CLAMPED_LOGPROB,
                }
                continue
            assert 0.0 <= leaf.confidence <= 1.0
            assert math.isfinite(leaf.logit)
            if abs(leaf.logit) < 12:
                assert leaf.confidence == pytest.approx(1 / (1 + math.exp(-leaf.logit)), rel=1e-5)
            place = PLACES[name[0],]
            quoted = name in {"b", "c"}
            assert leaf.log_p_raw == pytest.approx(
                by_chain_rule(made, place.start + quoted, place.end), rel=1e-9, abs=1e-9
            )

    @settings(max_examples=80, deadline=None)
    @given(cuts(DATA).flatmap(lambda pieces: scored(pieces, POOL)))
    def test_masses_are_no_more_than_one(self, made: list[Token]) -> None:
        spelling = Spelling(made, DATA)
        sets: list[tuple[str, LabelSet | Literals, str | bool | None]] = [
            ("a", YES_NO_NULL, True),
            ("b", LABELS, "shipping"),
            ("b", LABEL_OR_NULL, "shipping"),
            ("f", NULL_OR_TEXT, None),
        ]
        for name, among, value in sets:
            score = closed_choice(spelling, PLACES[name,], among=among, value=value)
            if isinstance(score, Unknown):
                continue
            masses = [each.mass for each in score.masses]
            assert min(*masses, score.ambiguous, score.off_label, score.unseen) >= 0.0
            assert math.fsum([*masses, score.ambiguous, score.off_label]) <= 1 + 1e-6

    @settings(max_examples=100, deadline=None)
    @given(st.sets(st.integers(1, len(DATA) - 1)), st.data())
    def test_layout_may_be_cut_anyhow(self, cut_at: set[int], data: st.DataObject) -> None:
        """Tokens wholly in the layout change nothing, however cut and whatever they are."""
        plain, cut = [], []
        for start, end, is_value in STRETCHES:
            if is_value:
                made = [token(DATA[start : start + 1], 0.9, {"n": 0.05, "f": 0.02, '"': 0.01})]
                made.append(token(DATA[start + 1 : end], 0.8, {'hip"': 0.1, "x": 0.05}))
                plain += made
                cut += made
                continue
            plain.append(token(DATA[start:end]))
            borders = [start, *sorted(cut_at & set(range(start + 1, end))), end]
            for piece in (DATA[a:b] for a, b in pairwise(borders)):
                forced = token(piece, 0.0, {"?": 0.6}), token(piece, 0.4, {" ": 0.5})
                cut.append(data.draw(st.sampled_from([token(piece), *forced])))
        assert list(map(figures, leaves(cut).values())) == list(
            map(figures, leaves(plain).values())
        )

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from([b"false", b"null", b"t", b"x"]), st.floats(0.01, 0.2)),
            min_size=1,
            max_size=4,
        ),
        st.integers(0, 6),
    )
    def test_a_token_that_holds_the_layout_too_says_the_same(
        self, others: list[tuple[bytes, float]], held: int
    ) -> None:
        before, value, after = DATA[:6], DATA[6:10], DATA[10:]
        p = 1 - sum(each for _, each in others)
        alone = [
            token(before),
            Token(value, math.log(p), tuple(Alternative(o, math.log(q)) for o, q in others)),
            token(after),
        ]
        layout = before[held:]
        joined = [
            token(before[:held]),
            Token(
                layout + value,
                math.log(p),
                tuple(Alternative(layout + o, math.log(q)) for o, q in others),
            ),
            token(after),
        ]
        one, other = (
            known(closed_leaf(Spelling(made, DATA), PLACES["a",], among=YES_NO_NULL, value=True))
            for made in (alone, joined)
        )
        assert one[:3] == other[:3]

    @settings(max_examples=150, deadline=None)
    @given(
        cuts(DATA),
        st.lists(st.floats(max_value=1e-6, allow_nan=False, allow_infinity=False), min_size=14),
        st.lists(
            st.tuples(
                st.sampled_from(POOL),
                st.floats(max_value=0.0, allow_nan=False, allow_infinity=False),
            ),
            max_size=5,
        ),
    )
    def test_any_numbers_keep_the_bounds(
        self, pieces: list[bytes], logprobs: list[float], listed: list[tuple[bytes, float]]
    ) -> None:
        others = tuple(Alternative(*each) for each in listed)
        made = [
            Token(piece, logprob, others) for piece, logprob in zip(pieces, logprobs, strict=False)
        ]
        for leaf in leaves(made).values():
            if isinstance(leaf, LeafScore):
                assert 0.0 <= leaf.confidence <= 1.0
                assert math.isfinite(leaf.logit)


def by_chain_rule(made: Sequence[Token], start: int, end: int) -> float:
    """The sum of the logprobs of the tokens with a byte of the value, by looking at each byte."""
    total, at = 0.0, 0
    for each in made:
        stretch = range(at, at + len(each.data)) or (at,)  # an empty token stands at a byte
        at += len(each.data)
        if any(start <= byte < end for byte in stretch):
            total += each.logprob
    return total


def figures(leaf: LeafScore | Unknown) -> Any:
    assert isinstance(leaf, LeafScore)
    return leaf[:3]


class TestLikeASingleChoice:
    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(['{"label":"ship"}', '{ "label" : "Télécom" }', '{"label":" SHIPPING"}']),
        st.data(),
    )
    def test_a_field_of_labels_is_scored_as_the_only_one(
        self, content: str, data: st.DataObject
    ) -> None:
        made = data.draw(cuts(content.encode()).flatmap(lambda each: scored(each, POOL)))
        label = LABELS.parse(json.loads(content)["label"])
        assert label is not None
        spelling, place = found(made, "label")
        ours = closed_choice(spelling, place, among=LABELS, value=label.name)
        theirs = score_choice(
            made, data=spelling.data, begin=0, field="label", labels=LABELS, chosen=label.name
        )
        assume(not isinstance(theirs, Unknown))
        assert ours == theirs
