"""Labels written bare are scored as those in JSON are, and as their definition says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.confidence import Alternative, ChoiceScore, Token, score_choice
from app.domain.kinds.base import Score
from app.domain.kinds.single_choice.saved import SavedChoiceSchema
from app.domain.labels import LabelSet, LabelSetError
from app.domain.unknown import Unknown, UnknownReason, Unusable

LABELS = LabelSet.of(["Media", "Sports", "New York", "ship", "shipping", 'a "b" \\c', "né"])


def token(text: str | bytes, p: float = 1.0, **others: float) -> Token:
    """A token with its alternatives; `_` in a name stands for a space."""
    data = text if isinstance(text, bytes) else text.encode()
    listed = {data: p, **{name.replace("_", " ").encode(): each for name, each in others.items()}}
    return Token(
        data, math.log(p), tuple(Alternative(each, math.log(q)) for each, q in listed.items())
    )


def other(text: str, p: float, alternatives: dict[str, float]) -> Token:
    """A token with alternatives that are no names."""
    listed = {text: p, **alternatives}
    return Token(
        text.encode(),
        math.log(p),
        tuple(Alternative(each.encode(), math.log(q)) for each, q in listed.items()),
    )


def score(*tokens: Token, labels: LabelSet = LABELS) -> Score | Unknown | Unusable:
    schema = SavedChoiceSchema(labels)
    content = b"".join(each.data for each in tokens).decode()
    value = schema.read(content, text="")
    if isinstance(value, Unusable):
        return value
    return schema.score(tokens, content=content, begin=0, value=value, text="")


def mass(scored: Score | Unknown | Unusable) -> dict[str, float]:
    """The masses above 0 by label, and of what is no label."""
    assert isinstance(scored, Score), scored
    named = {each.label: each.mass for each in scored.alternatives}
    named |= {"ambiguous": scored.ambiguous or 0.0, "off": scored.off_label or 0.0}
    return {name: round(each, 9) for name, each in named.items() if each > 0.0}


CASES = [
    # one token; a space before a label and its case are aliases
    ([token("Media", 0.8, Sports=0.1, _sports=0.05, x=0.04)], "Media .8, Sports .15, off .04"),
    # white space around the label is no part of it
    ([token(" "), token("Media", 0.9, Sports=0.1)], "Media .9, Sports .1"),
    ([token("\n\nMedia", 0.9, Sports=0.1), token("\n")], "Media .9, Sports .1"),
    # where white space stood, a label could have stood
    ([token("\n", 0.6, Sports=0.4), token("Media", 0.5, Other=0.5)], "Media .3, Sports .4, off .3"),
    # several tokens; what leaves one label possible is that label, what leaves several is doubt
    ([token("S", 0.5, M=0.2, s=0.2), token("ports")], "Sports .5, Media .2, ambiguous .2"),
    # quotes and backslashes of a label, and of what is none
    (
        [token("a ", 0.9, Media=0.1), other('"b"', 0.8, {'"x': 0.2}), token(" \\c")],
        'a "b" \\c .72, Media .1, off .18',
    ),
    ([other("Media", 0.9, {'Sports"': 0.1})], "Media .9, off .1"),
    # part of a character
    ([token("n", 0.9, Media=0.1), token(b"\xc3"), token(b"\xa9")], "né .9, Media .1"),
    # what stands behind a longer label may end a shorter one
    (
        [token("ship", 0.9, Media=0.1), other("ping", 0.7, {"\n": 0.1, "<|im_end|>": 0.2})],
        "shipping .63, ship .27, Media .1",
    ),
    (
        [token("ship", 0.9, Media=0.1), other("\n", 0.7, {"ping": 0.2, "</s>": 0.1})],
        "ship .72, shipping .18, Media .1",
    ),
    # some servers list the end of the answer, as a token without text
    (
        [token("ship", 0.9, Media=0.1), other("", 0.8, {"ping": 0.2})],
        "ship .72, shipping .18, Media .1",
    ),
    # a space may end a label or go on with one
    ([other("Media", 0.8, {"New ": 0.1, "Sports ": 0.1})], "Media .8, New York .1, Sports .1"),
    # thinking is no part of it, in tokens of its own or not
    (
        [token("<think>Sports?"), token("</think>"), token("\n"), token("Media", 0.9, Sports=0.1)],
        "Media .9, Sports .1",
    ),
    (
        [token("<think>"), token("", 0.5, Sports=0.5), token("</think>Media", 0.9, Sports=0.1)],
        "Media .9, off .1",
    ),
    (
        [token("<think>Sports?</think"), other(">Media", 0.9, {">Sports": 0.06, "Sports": 0.04})],
        "Media .9, Sports .06, off .04",
    ),
]


@pytest.mark.parametrize(("tokens", "expected"), CASES, ids=range(len(CASES)))
def test_masses(tokens: Sequence[Token], expected: str) -> None:
    pairs = (pair.rsplit(" ", 1) for pair in expected.split(", "))
    assert mass(score(*tokens)) == {name: pytest.approx(float(p), abs=1e-9) for name, p in pairs}


def test_p_raw_is_that_of_the_very_tokens() -> None:
    scored = score(token("\n", 0.5), token("Me", 0.5, Sports=0.5), token("dia", 0.8))
    assert isinstance(scored, Score)
    assert scored.p_raw == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        # nothing says whether it would have gone on to `shipping`
        ([token("ship", 0.9, Media=0.1)], UnknownReason.NO_ALTERNATIVES),
        ([token("ship", 0.9, Media=0.1), Token(b"\n", 0.0, ())], UnknownReason.NO_ALTERNATIVES),
        ([Token(b"Media", -0.1, ())], UnknownReason.NO_ALTERNATIVES),
        ([token("Media", 0.9, Sports=0.2)], UnknownReason.NOT_A_DISTRIBUTION),
        ([token("Median", 0.9, Sports=0.1)], UnknownReason.LABEL_OUTSIDE_SCHEMA),
        ([token("It is Media.", 0.9, Sports=0.1)], UnknownReason.LABEL_OUTSIDE_SCHEMA),
        ([token('"Media"', 0.9, Sports=0.1)], UnknownReason.WRONG_SHAPE),
        ([token("<think>Media", 0.9, Sports=0.1)], UnknownReason.TRUNCATED),
        ([token(" \n", 0.9, Sports=0.1)], UnknownReason.EMPTY_ANSWER),
        ([token('{"label": "Median"}')], UnknownReason.LABEL_OUTSIDE_SCHEMA),
    ],
)
def test_what_is_unknown(tokens: Sequence[Token], reason: UnknownReason) -> None:
    scored = score(*tokens)
    assert not isinstance(scored, Score)
    assert scored.reason is reason


PLAIN = ["a", "b", "é", " a"]
ESCAPED = ["a", 'b"', "\\", "é", " a"]


@st.composite
def label_sets(draw: st.DrawFn, letters: Sequence[str]) -> LabelSet:
    texts = st.lists(st.sampled_from(letters), min_size=1, max_size=4)
    names = texts.map(lambda parts: "".join(parts).strip())
    try:
        return LabelSet.of(draw(st.lists(names, min_size=2, max_size=5, unique=True)))
    except LabelSetError:  # the same but for white space
        return LabelSet.of(["a", "b"])


@st.composite
def answers(
    draw: st.DrawFn, letters: Sequence[str]
) -> tuple[LabelSet, str, list[list[tuple[bytes, float]]]]:
    """A label cut into tokens anywhere, each with alternatives: (bytes, probability) of all."""
    labels = draw(label_sets(letters))
    label = draw(st.sampled_from(labels.names))
    data = label.encode()
    cuts = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=3))) if data[1:] else []
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    parts = [name.encode()[a:b] for name in labels.names for a in (0, 1) for b in (1, 2, 9)]
    positions = []
    for piece in pieces:
        rest = draw(st.lists(st.sampled_from([p for p in parts if p] or [b"a"]), max_size=4))
        weights = [draw(st.integers(1, 9)) for _ in [piece, *rest]]
        total = sum(weights) + draw(st.integers(0, 3))
        positions.append(
            [(each, weight / total) for each, weight in zip([piece, *rest], weights, strict=True)]
        )
    return labels, label, positions


def by_definition(
    labels: LabelSet, label: str, positions: list[list[tuple[bytes, float]]]
) -> dict[str, float]:
    """Every alternative looked up among the labels' own bytes."""
    found = dict.fromkeys([*labels.names, "ambiguous", "off"], 0.0)
    said, reached = b"", 1.0
    for (piece, p), *rest in positions:
        for alternative, q in rest:
            text = said + alternative if said else alternative.lstrip(b" ")
            left = [name for name in labels.names if name.encode().startswith(text)]
            ended = [name for name in labels.names if name.encode() == text.rstrip(b" ")]
            to = (left if left or text == text.rstrip(b" ") else ended) or ["off"]
            found[to[0] if len(to) == 1 else "ambiguous"] += reached * q
        said, reached = said + piece, reached * p
    found[label] += reached
    return found


@settings(max_examples=80, deadline=None)
@given(answers(ESCAPED))
def test_masses_are_those_of_the_definition(
    case: tuple[LabelSet, str, list[list[tuple[bytes, float]]]],
) -> None:
    labels, label, positions = case
    tokens = [
        Token(each[0][0], math.log(each[0][1]), tuple(Alternative(d, math.log(p)) for d, p in each))
        for each in positions
    ]
    scored = score(*tokens, labels=labels)
    if isinstance(scored, Unknown):
        assert scored.reason is UnknownReason.NO_ALTERNATIVES
        return
    assert isinstance(scored, Score)
    expected = by_definition(labels, label, positions)
    got = {each.label: each.mass for each in scored.alternatives}
    got |= {"ambiguous": scored.ambiguous or 0.0, "off": scored.off_label or 0.0}
    assert got == pytest.approx(expected, abs=1e-12)
    assert min(got.values()) >= 0.0
    assert math.fsum(got.values()) <= 1 + 1e-6


@settings(max_examples=60, deadline=None)
@given(answers(PLAIN))
def test_the_score_is_that_of_the_same_tokens_in_json(
    case: tuple[LabelSet, str, list[list[tuple[bytes, float]]]],
) -> None:
    labels, label, positions = case
    # a space behind a label ends a bare one alone
    assume(not any(data.endswith(b" ") for _, *others in positions for data, _ in others))
    tokens = [
        Token(each[0][0], math.log(each[0][1]), tuple(Alternative(d, math.log(p)) for d, p in each))
        for each in positions
    ]
    bare = score(*tokens, labels=labels)
    if isinstance(bare, Unknown):
        return
    assert isinstance(bare, Score)
    framed = [Token(b'{"label": "', 0.0, ()), *tokens, Token(b'"}', 0.0, ())]
    structured = score_choice(
        framed,
        data=json.dumps({"label": label}, ensure_ascii=False).encode(),
        begin=0,
        field="label",
        labels=labels,
        chosen=label,
    )
    assert isinstance(structured, ChoiceScore)
    assert (bare.logit, bare.p_raw) == (structured.logit, structured.p_raw)
    assert bare.alternatives == structured.alternatives
