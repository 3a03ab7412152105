from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.kinds import parse_schema
from app.domain.kinds.base import SchemaError, Score, ValueFaultError
from app.domain.kinds.text import TextSchema
from app.domain.kinds.text.similarity import chrf, edit_distance, edit_similarity, normal
from app.domain.prompting import Example, system_prompt
from app.domain.tokens import Alternative, Token
from app.domain.unknown import Unknown, UnknownReason, Unusable

SCHEMA = TextSchema(max_characters=40, description="A summary in one sentence.")
STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
WORDS = st.text(st.sampled_from("abc é\u0301\U0001f600"), max_size=30)


def token(data: str | bytes, logprob: float, *others: float) -> Token:
    """A token with alternatives of these logprobs."""
    data = data.encode() if isinstance(data, str) else data
    return Token(data, logprob, tuple(Alternative(b"?", other) for other in others))


def score(*tokens: Token) -> Score | Unknown:
    content = b"".join(each.data for each in tokens).decode()
    value = SCHEMA.read(content, text="")
    assert isinstance(value, str)
    return SCHEMA.score(tokens, content=content, begin=0, value=value, text="")


class TestDefinition:
    @pytest.mark.parametrize(
        ("definition", "pointers"),
        [
            ({"max_characters": 0}, ["/max_characters"]),
            ({"max_characters": 20_001}, ["/max_characters"]),
            ({"max_characters": True}, ["/max_characters"]),
            ({"max_characters": 10.0}, ["/max_characters"]),
            ({"max_characters": None}, ["/max_characters"]),
            ({"description": 1}, ["/description"]),
            ({"description": "x" * 2_001}, ["/description"]),
            ({"description": "a\0b"}, ["/description"]),
            ({"description": "\ud800"}, ["/description"]),
            ({"labels": ["a", "b"]}, ["/labels"]),
            ({"max_characters": "9", "description": None, "x": 1}, None),  # all at once
        ],
    )
    def test_that_is_none_says_where(
        self, definition: dict[str, Any], pointers: list[str] | None
    ) -> None:
        with pytest.raises(SchemaError) as refused:
            TextSchema.parse(definition)
        told = [problem.pointer for problem in refused.value.problems]
        assert told == (pointers or ["/x", "/max_characters", "/description"])

    @pytest.mark.parametrize("definition", [{}, {"max_characters": 1}, {"description": "A verse."}])
    def test_is_read_back(self, definition: dict[str, Any]) -> None:
        schema = TextSchema.parse(definition)
        assert schema.definition() == {"max_characters": 10_000, "description": "", **definition}
        again = parse_schema({"kind": "text", **schema.definition()})
        assert again == schema
        assert hash(again) == hash(schema)

    def test_the_prompt_says_what_is_wanted_and_how_long(self) -> None:
        examples = [Example({"text": "It rained and rained."}, "It rained.")]
        prompt = system_prompt(SCHEMA, instructions="Be brief.", examples=examples)
        assert "A summary in one sentence." in prompt
        assert "</item>\nIt rained.\n" in prompt
        assert "at most 40 characters" in prompt
        assert SCHEMA.answer_schema() is None


class TestReading:
    @pytest.mark.parametrize(
        ("answer", "value"),
        [
            ("It rained.", "It rained."),
            ("\n\u00a0It  rained.\r\n\n", "It  rained."),  # within, it stands as it was written
            ("<think>Hm, {rain}?</think>\n\nIt rained.", "It rained."),
            ("Hm.</think>It rained.", "It rained."),  # servers that swallow the opening tag
            ("x" * 40, "x" * 40),
            ('{"text": 1}', '{"text": 1}'),  # text, whatever it looks like
            ("\U0001f468\u200d\U0001f4bb e\u0301", "\U0001f468\u200d\U0001f4bb e\u0301"),
        ],
    )
    def test_takes_what_stands_behind_the_thinking(self, answer: str, value: str) -> None:
        assert SCHEMA.read(answer, text="") == value

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ("", UnknownReason.EMPTY_ANSWER),
            (" \n\u2003", UnknownReason.EMPTY_ANSWER),
            ("<think>It rained.</think>\n", UnknownReason.EMPTY_ANSWER),
            ("<think>It rained.", UnknownReason.TRUNCATED),
            ("x" * 41, UnknownReason.TOO_LONG),
            ("a\0b", UnknownReason.WRONG_SHAPE),
            ("a\ud800b", UnknownReason.WRONG_SHAPE),
        ],
    )
    def test_an_unusable_answer_has_its_reason(self, answer: str, reason: UnknownReason) -> None:
        unusable = SCHEMA.read(answer, text="")
        assert isinstance(unusable, Unusable)
        assert unusable.reason is reason

    @given(STORABLE)
    def test_reads_what_it_says(self, value: str) -> None:
        try:
            value = SCHEMA.accept(value, text=None)
        except ValueFaultError:
            return
        if "</think>" not in value and not value.startswith("<think>"):
            assert SCHEMA.read(SCHEMA.answer(value), text="") == value
        assert SCHEMA.decode(SCHEMA.encode(value)) == value
        assert SCHEMA.encode(value) == value

    @given(st.text())
    def test_reads_anything_without_an_exception(self, answer: str) -> None:
        value = SCHEMA.read(answer, text="")
        if not isinstance(value, Unusable):
            assert SCHEMA.accept(value, text=None) == value


class TestAccepting:
    def test_without_the_white_space_around_it(self) -> None:
        assert SCHEMA.accept("\t It rained. \n", text=None) == "It rained."

    @pytest.mark.parametrize(
        "value", [None, 1, True, ["a"], {"text": "a"}, "", " \n", "x" * 41, "a\0", "\udfff"]
    )
    def test_refuses(self, value: object) -> None:
        with pytest.raises(ValueFaultError) as refused:
            SCHEMA.accept(value, text=None)
        assert refused.value.pointer == ""


class TestScore:
    def test_is_the_geometric_mean_of_the_tokens(self) -> None:
        # (.5 * .8 * .9) ** (1 / 3) = .36 ** (1 / 3)
        scored = score(
            *(token(word, math.log(p)) for word, p in [("It", 0.5), (" r", 0.8), (".", 0.9)])
        )
        assert isinstance(scored, Score)
        assert scored.confidence == pytest.approx(0.36 ** (1 / 3), rel=1e-12)
        odds = scored.confidence / (1 - scored.confidence)
        assert scored.logit == pytest.approx(math.log(odds), rel=1e-12)
        assert scored.figures == {
            "mean_logprob": pytest.approx(math.log(0.36) / 3, rel=1e-12),
            "min_logprob": math.log(0.5),
        }
        assert scored.p_raw is None
        assert scored.parts == ()

    def test_leaves_out_thinking_white_space_and_empty_tokens(self) -> None:
        text = (token("It", -0.2), token(" rained.", -0.4))
        around = (
            token("<think>", -9999.0),
            token("Hm.", -5.0),
            token("</think>", 0.0),
            token("\n\n", -3.0),
            *text[:1],
            token(b"", -9.0),
            *text[1:],
            token("\n", -9999.0),
        )
        assert score(*around) == score(*text)

    def test_a_token_with_some_of_the_text_is_one_of_its_tokens(self) -> None:
        scored = score(token("</think> I", -0.3), token("t. \n", -0.1))
        assert isinstance(scored, Score)
        assert scored.figures["min_logprob"] == -0.3
        assert scored.figures["mean_logprob"] == pytest.approx(-0.2)

    @pytest.mark.parametrize(
        ("tokens", "reason"),
        [
            ([token("It", 0.0), token(" rained", 0.0)], UnknownReason.NO_ALTERNATIVES),
            ([token("It", 0.0, -9999.0)], UnknownReason.NO_ALTERNATIVES),  # that is none
            ([token("It", -0.1), token(" rained", -9999.0)], UnknownReason.CLAMPED_LOGPROB),
            ([token("It", -0.1, -0.1)], UnknownReason.NOT_A_DISTRIBUTION),
        ],
    )
    def test_fails_closed(self, tokens: list[Token], reason: UnknownReason) -> None:
        unknown = score(*tokens)
        assert isinstance(unknown, Unknown)
        assert unknown.reason is reason

    def test_logprobs_without_alternatives_are_evidence(self) -> None:
        assert isinstance(score(token("It", 0.0), token(" rained", -1e-6)), Score)

    def test_ranks_where_the_confidence_saturates(self) -> None:
        logits = []
        for other in (-12.0, -17.0, -20.0, -30.0, -740.0):
            scored = score(token("It", 0.0, other), token(" rained", 0.0))
            assert isinstance(scored, Score)
            assert scored.confidence == pytest.approx(1.0, abs=1e-7)
            assert scored.figures["mean_logprob"] == 0.0
            logits.append(scored.logit)
        assert logits == sorted(logits)
        assert len(set(logits[1:])) == 4
        # as unsure as an alternative makes it, and no less sure than single precision can tell
        assert logits[0] == pytest.approx(math.log(2 * 2**24), abs=1e-3)
        assert logits[2] == pytest.approx(20 + math.log(2), abs=1e-3)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_of_any_tokens_is_in_its_bounds(self, data: st.DataObject) -> None:
        text = data.draw(st.text(st.sampled_from("a é\U0001f600\n"), min_size=1).filter(str.strip))
        content = text.encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)))))
        logprobs = st.floats(-10_000.0, 0.0) | st.sampled_from([0.0, -0.0, -5e-324, -9999.0])
        tokens = [
            token(content[begin:end], *data.draw(st.lists(logprobs, min_size=1, max_size=4)))
            for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True)
        ]
        scored = TextSchema().score(tokens, content=text, begin=0, value=text.strip(), text="")
        if isinstance(scored, Score):
            assert 0.0 <= scored.confidence <= 1.0
            assert math.isfinite(scored.logit)
            assert scored.figures["min_logprob"] <= scored.figures["mean_logprob"] * (1 - 1e-12)


def plain_distance(one: str, other: str) -> int:
    """The table, row by row."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (left != right))
    return row[-1]


class TestEditSimilarity:
    @pytest.mark.parametrize(
        ("one", "other", "distance"),
        [
            ("kitten", "sitting", 3),
            ("Saturday", "Sunday", 3),
            ("intention", "execution", 5),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "xyz", 3),
            ("ab", "ba", 2),  # a transposition is no edit of its own
            ("\U0001f600", "\U0001f601", 1),
        ],
    )
    def test_counts_edits(self, one: str, other: str, distance: int) -> None:
        assert edit_distance(one, other) == distance
        longest = max(len(one), len(other))
        assert edit_similarity(one, other) == pytest.approx(1 - distance / longest)

    def test_two_empty_texts_are_the_same(self) -> None:
        assert edit_similarity("", "") == 1.0

    @settings(max_examples=300, deadline=None)
    @given(st.text("ab", max_size=20), st.text("abc", max_size=20))
    @example("a" * 20, "b" * 20)
    def test_is_the_plain_distance(self, one: str, other: str) -> None:
        assert edit_distance(one, other) == plain_distance(one, other)

    @settings(max_examples=20, deadline=None)
    @given(st.text("ab", min_size=60, max_size=150), st.text("ab", min_size=60, max_size=150))
    def test_also_beyond_a_machine_word(self, one: str, other: str) -> None:
        assert edit_distance(one, other) == plain_distance(one, other)


class TestChrf:
    @pytest.mark.parametrize(
        ("hypothesis", "reference", "value"),
        [
            # n = 1: 2 of 3, n = 2: 1 of 2, n = 3: none; the same both ways
            ("abc", "abd", (2 / 3 + 1 / 2 + 0) / 3),
            # precision 1; recall (1/2 + 1/3) / 2 = 5/12; 5 · 5/12 / (4 + 5/12)
            ("ab", "abcd", 25 / 53),
            # precision 5/12, recall 1; 5 · 5/12 / (4 · 5/12 + 1)
            ("abcd", "ab", 25 / 32),
            # an n-gram counts as often as the other text has it: 1 of 2, 1 of 1
            ("aa", "a", 5 * 0.5 / (4 * 0.5 + 1)),
            ("abc", "xyz", 0.0),
            ("a b", "ab", 1.0),  # white space does not count
            ("", "", 1.0),
            ("", "a", 0.0),
            # as sacreBLEU 2.6 has them (chrF2, without words)
            ("The cat sat on the mat.", "The cat is on the mat.", 0.6717273492330232),
            ("Ein Hund bellt", "Der Hund bellte laut", 0.4731719600229544),
            ("né à Besançon", "née à Besançon en 1802", 0.484082934629171),
            ("日本語の要約", "日本の要約です", 0.2434979544126242),
        ],
    )
    def test_is_the_f_score_of_the_means(
        self, hypothesis: str, reference: str, value: float
    ) -> None:
        assert chrf(hypothesis, reference) == pytest.approx(value, rel=1e-12)

    def test_recall_counts_more(self) -> None:
        assert chrf("abcd", "ab") > chrf("ab", "abcd")


class TestComparison:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("It rained.", "It rained."),
            ("It \n rained.", " It rained.\t"),
            ("caf\u00e9", "cafe\u0301"),
        ],
    )
    def test_form_and_white_space_do_not_count(self, one: str, other: str) -> None:
        comparison = SCHEMA.compare(one, other)
        assert comparison.equal
        assert comparison.metrics == {"edit_similarity": 1.0, "chrf": 1.0, "exact": 1.0}

    @pytest.mark.parametrize(
        ("one", "other"), [("It rained.", "it rained."), ("ab", "a b"), ("1", "¹")]
    )
    def test_all_else_does(self, one: str, other: str) -> None:
        comparison = SCHEMA.compare(one, other)
        assert not comparison.equal
        assert comparison.metrics["exact"] == 0.0
        assert comparison.metrics["edit_similarity"] < 1.0

    @settings(max_examples=200, deadline=None)
    @given(WORDS, WORDS)
    def test_its_metrics_keep_their_laws(self, one: str, other: str) -> None:
        there, back = SCHEMA.compare(one, other), SCHEMA.compare(other, one)
        assert tuple(there.metrics) == TextSchema.METRICS
        assert all(0.0 <= value <= 1.0 for value in there.metrics.values())
        assert there.equal == back.equal == (normal(one) == normal(other))
        assert there.metrics["edit_similarity"] == back.metrics["edit_similarity"]
        assert SCHEMA.equal(one, unicodedata.normalize("NFD", one))
        if there.equal:
            assert set(there.metrics.values()) == {1.0}
        else:
            assert there.metrics["edit_similarity"] < 1.0


def test_the_documented_definition_is_one() -> None:
    described = TextSchema.definition_schema()
    assert set(described["properties"]) == {"kind", *TextSchema().definition()}
    assert json.loads(json.dumps(described)) == described
