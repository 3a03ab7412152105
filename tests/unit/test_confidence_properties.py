"""The scoring against models whose every probability is known exactly.

A model here is a finite set of answers, each a sequence of tokens with a rational weight. Its next
token probabilities follow by the chain rule, and what an answer is, from its bytes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from app.domain.confidence import (
    Alternative,
    ChoiceScore,
    Token,
    Unknown,
    UnknownReason,
    evidence_from_json,
    evidence_to_json,
    read_tokens,
)
from app.domain.labels import LabelSet, LabelSetError
from tests.support.choices import score_single_choice

LAYOUTS = ('{"label":"', '{"label": "', '{\n  "label" : "')

# Shared prefixes, prefixes of one another, what JSON escapes, characters that share their first
# bytes (é and è, two faces, a woman and a man at the computer), and case that changes in UTF-8.
PIECES = ("ship", "ping", "s", "a", "b", '"', "\\", "/", "é", "è", "Ж", "ß", "'", "\u0130")
EMOJI = ("\U0001f600", "\U0001f601", "\U0001f469\u200d\U0001f4bb", "\U0001f468\u200d\U0001f4bb")
SHORT = {'"': b'\\"', "\\": b"\\\\"}


class Piece(NamedTuple):
    """A token of the model's vocabulary; two tokens of different `kind` may have equal bytes."""

    data: bytes
    kind: int


@dataclass(frozen=True)
class Model:
    """Answers with their weights. `answers[i]` says `meanings[i]`, None if it is no label."""

    labels: LabelSet
    layout: str
    weights: dict[tuple[Piece, ...], Fraction]
    meanings: dict[tuple[Piece, ...], str | None]

    def following(self, prefix: tuple[Piece, ...]) -> dict[Piece, Fraction]:
        """Probability of every next token."""
        masses: Counter[Piece] = Counter()
        for answer, weight in self.weights.items():
            if answer[: len(prefix)] == prefix and len(answer) > len(prefix):
                masses[answer[len(prefix)]] += weight  # type: ignore[assignment]
        total = sum(masses.values())
        return {piece: Fraction(mass) / total for piece, mass in masses.items()}

    def answer(self, pieces: tuple[Piece, ...], *, listed: int | None = None) -> list[Token]:
        """The answer as a server gives it, with as many alternatives as are listed."""
        tokens = []
        for position, piece in enumerate(pieces):
            following = self.following(pieces[:position])
            likeliest = sorted(following.items(), key=lambda item: -item[1])[:listed]
            alternatives = tuple(Alternative(each.data, log(p)) for each, p in likeliest)
            tokens.append(Token(piece.data, log(following[piece]), alternatives))
        return tokens


@dataclass
class Truth:
    """What the scoring must find, by another way: every answer is followed to where it parts."""

    p_raw: Fraction
    masses: dict[str, Fraction]
    ambiguous: Fraction
    off_label: Fraction
    parted_early: set[str]
    compared: bool

    @classmethod
    def of(cls, model: Model, chosen: tuple[Piece, ...]) -> Truth:
        start, size = value_tokens(chosen, len(model.layout.encode()))
        condition = chosen[:start]
        weights = {a: w for a, w in model.weights.items() if a[:start] == condition}
        total = sum(weights.values())
        truth = cls(
            p_raw=sum((w for a, w in weights.items() if a[:size] == chosen[:size]), Fraction())
            / total,
            masses=dict.fromkeys(model.labels.names, Fraction()),
            ambiguous=Fraction(),
            off_label=Fraction(),
            parted_early=set(),
            compared=False,
        )
        for answer, weight in weights.items():
            share = weight / total
            meaning = model.meanings[answer]
            if answer[:size] == chosen[:size]:
                assert meaning is not None
                truth.masses[meaning] += share
                continue
            pairs = enumerate(zip(answer, chosen, strict=False))
            parting = next(position for position, (one, other) in pairs if one != other)
            before = spelled(chosen[:parting])
            truth.compared |= len(left(model, before)) > 1
            possible = left(model, before + answer[parting].data)
            if len(possible) == 1:
                assert meaning in {None, *possible}
                truth.masses[possible[0]] += share
            elif possible:
                truth.ambiguous += share
                if meaning:
                    truth.parted_early.add(meaning)
            else:
                assert meaning is None
                truth.off_label += share
        return truth


def value_tokens(pieces: tuple[Piece, ...], start: int) -> tuple[int, int]:
    """The first token of the value and the number of tokens up to its closing quote."""
    first, end, text = None, 0, spelled(pieces)
    closing = next(
        at
        for at in range(start, len(text))
        if text[at] == 0x22 and escapes(text[start:at]) % 2 == 0
    )
    for position, piece in enumerate(pieces):
        begin, end = end, end + len(piece.data)
        if first is None and (begin >= start or end > start):
            first = position
        if end > closing:
            assert first is not None
            return first, position + 1
    raise AssertionError("the value is not closed")


def escapes(text: bytes) -> int:
    return len(text) - len(text.rstrip(b"\\"))


def spelled(pieces: tuple[Piece, ...]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def left(model: Model, answer: bytes) -> list[str]:
    """The labels that an answer's beginning can still become, by trying every spelling."""
    layout = model.layout.encode()
    if len(answer) < len(layout):
        return list(model.labels.names) if layout.startswith(answer) else []
    if not answer.startswith(layout):
        return []
    value = answer[len(layout) :]
    return [name for name in model.labels.names if may_become(value, name, begun=False)]


def may_become(value: bytes, name: str, *, begun: bool) -> bool:
    if not value:
        return True
    if not begun and any(
        space.startswith(value)
        or (value.startswith(space) and may_become(value[len(space) :], name, begun=False))
        for space in (b" ", b"\\u0020")
    ):
        return True
    if not name:
        return value.startswith(b'"')
    return any(
        spelling.startswith(value)
        or (value.startswith(spelling) and may_become(value[len(spelling) :], name[1:], begun=True))
        for spelling in spellings(name[0])
    )


def spellings(character: str) -> set[bytes]:
    """All ways to write a character in a JSON string, in any case; hexadecimal in lower case."""
    found = set()
    for variant in (character, character.upper(), character.lower()):
        if len(variant) == 1:
            units = variant.encode("utf-16-be").hex()
            found.add("".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)).encode())
            found.add(SHORT.get(variant, variant.encode()))
    return found | ({b"\\/"} if character == "/" else set())


def log(p: Fraction) -> float:
    """Correct to the last place near 1 too, where log(float(p)) is not."""
    if p > Fraction(1, 2):
        return math.log1p(-float(1 - p))
    return math.log(p.numerator) - math.log(p.denominator)


names = st.lists(
    st.lists(st.sampled_from(PIECES + EMOJI), min_size=1, max_size=3).map("".join),
    min_size=2,
    max_size=4,
    unique=True,
)
# From even odds down to a doubt of 1e-15, beyond what a double can show as a difference from 1.
weights = st.one_of(
    st.integers(1, 9).map(Fraction), st.integers(1, 15).map(lambda e: Fraction(1, 10**e))
)


def escaped(text: str, style: int) -> str:
    return (
        json.dumps(text, ensure_ascii=False)[1:-1],
        json.dumps(text)[1:-1],
        json.dumps(text)[1:-1].replace("/", "\\/"),
    )[style]


@st.composite
def tokenized(draw: st.DrawFn, answer: bytes, start: int, stride: int) -> tuple[Piece, ...]:
    """Cut anywhere, within characters too; equal cuts make empty tokens.

    Or cut as the model's other answers are, in strides from where the value starts, so that the
    answers part late and leave a long way to walk.
    """
    if draw(st.booleans()):
        cuts = [*range(start, len(answer), stride)]
    else:
        cuts = sorted(draw(st.lists(st.integers(1, len(answer) - 1), max_size=6)))
        cuts = [start, *(cut for cut in cuts if cut >= start)] if draw(st.booleans()) else cuts
    kinds = draw(st.sampled_from([st.just(0), st.integers(0, 1)]))
    return tuple(
        Piece(answer[begin:end], draw(kinds)) for begin, end in pairwise([0, *cuts, len(answer)])
    )


@st.composite
def models(draw: st.DrawFn) -> Model:
    try:
        labels = LabelSet.of(draw(names))
    except LabelSetError:
        assume(False)
    layout = draw(st.sampled_from(LAYOUTS))
    # Where tokens begin: mostly behind the opening quote, now and then before it.
    start = len(layout) - draw(st.sampled_from([0, 0, 0, 1, 2]))
    stride = draw(st.integers(1, 3))
    model = Model(labels, layout, {}, {})
    said = [*labels.names, *draw(st.lists(st.sampled_from(labels.names), max_size=3))]
    for name in said:
        alias = draw(st.sampled_from([name, name, f" {name}", name.swapcase()]))
        if labels.parse(alias) is None:  # a case that takes more than one character
            alias = name
        value = escaped(alias, draw(st.integers(0, 2)))
        pieces = draw(tokenized(f'{layout}{value}"}}'.encode(), start, stride))
        model.weights[pieces] = model.weights.get(pieces, Fraction()) + draw(weights)
        model.meanings[pieces] = name
    for text in draw(st.lists(st.sampled_from(["z", "shipz", "éz", "a ", "\\"]), max_size=2)):
        if labels.parse(text) is None:
            answer = f'{layout}{escaped(text, 0)}"}}'.encode()
            pieces = draw(tokenized(answer, start, stride))
            model.weights[pieces] = draw(weights)
            model.meanings[pieces] = None
    return model


def scored(tokens: list[Token], labels: LabelSet) -> ChoiceScore | Unknown:
    content = b"".join(token.data for token in tokens).decode()
    note(f"labels {labels.names}")
    note("\n".join(map(str, tokens)))
    return score_single_choice(tokens, content=content, labels=labels)


def total(score: ChoiceScore) -> float:
    return math.fsum(each.mass for each in score.masses) + score.ambiguous + score.off_label


def check_confidence(score: ChoiceScore) -> None:
    """One rises with the other, and nothing that was seen beside the label is left out."""
    assert math.isfinite(score.logit)
    assert score.confidence == pytest.approx(expit(score.logit), rel=1e-12)
    assert 0.0 <= score.confidence <= score.p_norm <= 1.0
    own = next(each.mass for each in score.masses if each.label == score.label)
    assert score.confidence <= own / total(score) * (1 + 1e-12)


def expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))


class TestWholeVocabularyListed:
    @settings(max_examples=200, deadline=None)
    @given(models(), st.data())
    def test_every_mass_is_exact(self, model: Model, data: st.DataObject) -> None:
        answers = [answer for answer, meaning in model.meanings.items() if meaning]
        chosen = data.draw(st.sampled_from(answers))
        truth = Truth.of(model, chosen)
        score = scored(model.answer(chosen), model.labels)

        if not truth.compared:
            assert isinstance(score, Unknown)
            assert score.reason is UnknownReason.NO_ALTERNATIVES
            return
        assert isinstance(score, ChoiceScore)
        assert score.label == model.meanings[chosen]
        # The chain rule, to 1e-9 of the value itself.
        assert score.p_raw == pytest.approx(float(truth.p_raw), rel=1e-9)
        assert score.log_p_raw == pytest.approx(log(truth.p_raw), rel=1e-9, abs=1e-15)
        # The doubt as much as the rest: relative, so that 1e-15 beside 1 is still right.
        masses = {each.label: each.mass for each in score.masses}
        assert masses == pytest.approx(
            {name: float(mass) for name, mass in truth.masses.items()}, rel=1e-9
        )
        assert score.ambiguous == pytest.approx(float(truth.ambiguous), rel=1e-9)
        assert score.off_label == pytest.approx(float(truth.off_label), rel=1e-9)
        assert 0.0 <= score.unseen <= 1e-12
        own, seen = truth.masses[score.label], sum(truth.masses.values()) + truth.ambiguous
        if seen > own:
            assert score.p_norm == pytest.approx(float(own / seen), rel=1e-9)
            doubt = seen - own + truth.off_label
            assert score.confidence == pytest.approx(float(own / (own + doubt)), rel=1e-9)
            assert score.logit == pytest.approx(log(own) - log(doubt), abs=1e-9)
        check_confidence(score)
        # A label alone at its point of divergence has all the probability the model gives it.
        start, _ = value_tokens(chosen, len(model.layout.encode()))
        given = {a: w for a, w in model.weights.items() if a[:start] == chosen[:start]}
        for name in set(model.labels.names) - truth.parted_early:
            meant = sum(w for a, w in given.items() if model.meanings[a] == name)
            strays = [a for a in given if model.meanings[a] is None]
            if not strays:
                assert masses[name] == pytest.approx(
                    float(Fraction(meant) / sum(given.values())), rel=1e-9
                )

    @settings(max_examples=80, deadline=None)
    @given(models(), st.data(), st.integers(1, 4))
    def test_fewer_listed_only_hide(self, model: Model, data: st.DataObject, listed: int) -> None:
        answers = [answer for answer, meaning in model.meanings.items() if meaning]
        chosen = data.draw(st.sampled_from(answers))
        whole = scored(model.answer(chosen), model.labels)
        some = scored(model.answer(chosen, listed=listed), model.labels)
        if isinstance(some, Unknown):
            assert some.reason is UnknownReason.NO_ALTERNATIVES
            return
        assert isinstance(whole, ChoiceScore)
        assert some.p_raw == whole.p_raw
        assert 0.0 <= some.unseen <= 1.0
        assert total(some) + some.unseen <= 1 + 1e-6
        for hidden, seen in zip(some.masses, whole.masses, strict=True):
            assert 0.0 <= hidden.mass <= seen.mass + 1e-12
        assert 0.0 <= some.ambiguous <= whole.ambiguous + 1e-12
        assert 0.0 <= some.off_label <= whole.off_label + 1e-12
        assert 0.0 <= some.margin <= 1.0
        assert 0.0 <= some.entropy <= math.log(len(model.labels) + 1) + 1e-12
        check_confidence(some)

    @settings(max_examples=40, deadline=None)
    @given(models(), st.data())
    def test_kept_evidence_gives_the_same_figures(self, model: Model, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from([a for a, meaning in model.meanings.items() if meaning]))
        tokens = model.answer(chosen, listed=20)
        kept = evidence_from_json(json.loads(json.dumps(evidence_to_json(tokens))))
        assert kept == tuple(tokens)
        assert scored(list(kept), model.labels) == scored(tokens, model.labels)


def two_labels(doubt: Fraction, *, beside: bytes = b"no") -> ChoiceScore:
    """The score of an answer that is right but for this doubt, the label in one token."""
    layout = Token(b'{"label":"', 0.0, ())
    alternatives = (Alternative(b"yes", log(1 - doubt)), Alternative(beside, log(doubt)))
    tokens = [layout, Token(b"yes", log(1 - doubt), alternatives), Token(b'"}', 0.0, ())]
    score = score_single_choice(
        tokens, content='{"label":"yes"}', labels=LabelSet.of(["yes", "no"])
    )
    assert isinstance(score, ChoiceScore)
    return score


class TestRanking:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.builds(
                lambda digits, exponent: Fraction(digits, 10**exponent),
                st.integers(1_000_000, 9_999_999),
                st.integers(8, 300),
            ),
            min_size=2,
            max_size=6,
            unique=True,
        ),
        # the other label, either one ("" begins both), none
        st.sampled_from([b"no", b"", b"maybe"]),
    )
    def test_is_exact_where_the_probability_is_one(
        self, doubts: list[Fraction], beside: bytes
    ) -> None:
        logits = {doubt: two_labels(doubt, beside=beside).logit for doubt in doubts}
        assert sorted(doubts, key=logits.__getitem__, reverse=True) == sorted(doubts)
        assert len(set(logits.values())) == len(doubts)

    def test_a_saturated_probability_still_has_its_rank(self) -> None:
        certain, surer = two_labels(Fraction(1, 10**17)), two_labels(Fraction(1, 10**18))
        assert certain.confidence == surer.confidence == 1.0
        assert surer.logit - certain.logit == pytest.approx(math.log(10))


class TestHostileEvidence:
    junk = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=3)
        | st.just(-9999.0),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["token", "bytes", "logprob", "top_logprobs"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )

    @settings(max_examples=120, deadline=None)
    @given(junk)
    def test_anything_is_read_without_an_exception(self, junk: object) -> None:
        assert isinstance(read_tokens(junk, content="x"), tuple | Unknown)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.floats(max_value=0.0, allow_nan=False, allow_infinity=False), max_size=4),
        st.lists(
            st.tuples(
                st.sampled_from([b"", b"a", b'a"', b"ab", b"\xc3", b"\\", b"\\u00", b'"', b"\xff"]),
                st.floats(max_value=0.0, allow_nan=False, allow_infinity=False),
            ),
            max_size=6,
        ),
    )
    def test_any_numbers_keep_the_bounds(
        self, logprobs: list[float], listed: list[tuple[bytes, float]]
    ) -> None:
        alternatives = tuple(Alternative(*each) for each in listed)
        pieces = [b'{"label":"', b"a", b"", b'b"', b"}"]
        tokens = [
            Token(data, logprob, alternatives)
            for data, logprob in zip(pieces, [0.0, *logprobs, 0.0, 0.0, 0.0, 0.0], strict=False)
        ]
        score = scored(tokens, LabelSet.of(["ab", "a", "é"]))
        if isinstance(score, Unknown):
            return
        assert total(score) <= 1 + 1e-6
        assert min(each.mass for each in score.masses) >= 0.0
        assert min(score.ambiguous, score.off_label, score.unseen) >= 0.0
        check_confidence(score)
