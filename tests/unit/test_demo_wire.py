"""The wire format carries the exact distribution: what later reads it may rely on every figure."""

import json
import math
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.demo.wire import (
    VALUE_START,
    RequestError,
    byte_pieces,
    choose,
    label_answer,
    read_request,
)

# few letters, so that prefixes are shared and labels are prefixes of one another; quotes and
# backslashes, which JSON escapes; characters of 2, 3 and 4 bytes, which pieces cut in two
ALPHABET = 'ab "\\\n/éØ語🚢👩‍🔧'
labels = st.lists(st.text(ALPHABET, min_size=1, max_size=9), min_size=1, max_size=20, unique=True)


@st.composite
def distributions(draw: st.DrawFn) -> dict[str, float]:
    names = draw(labels)
    mass = st.floats(1e-12, 1, allow_subnormal=False)
    return {name: draw(mass) for name in names}


tokenizers = st.integers(1, 5).map(lambda size: partial(byte_pieces, size=size))


def tokens_of(choice: dict[str, Any]) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = choice["logprobs"]["content"]
    return tokens


def product(choice: dict[str, Any]) -> float:
    return math.exp(math.fsum(token["logprob"] for token in tokens_of(choice)))


class TestChainRule:
    @settings(deadline=None)
    @given(distributions(), tokenizers)
    def test_every_product_is_the_label_s_probability(
        self, probabilities: dict[str, float], tokenizer: Any
    ) -> None:
        total = math.fsum(probabilities.values())
        products = {
            label: product(label_answer(probabilities, label, tokenizer=tokenizer))
            for label in probabilities
        }
        for label, mass in probabilities.items():
            assert products[label] == pytest.approx(mass / total, rel=1e-9)
        assert math.fsum(products.values()) == pytest.approx(1, abs=1e-9)

    @settings(deadline=None)
    @given(distributions(), tokenizers, st.data())
    def test_the_masses_of_a_position_sum_to_1(
        self, probabilities: dict[str, float], tokenizer: Any, data: st.DataObject
    ) -> None:
        chosen = data.draw(st.sampled_from(sorted(probabilities)))
        for token in tokens_of(label_answer(probabilities, chosen, tokenizer=tokenizer)):
            masses = [math.exp(other["logprob"]) for other in token["top_logprobs"]]
            assert math.fsum(masses) == pytest.approx(1, abs=1e-9)
            assert masses == sorted(masses, reverse=True)
            shown = {tuple(other["bytes"]): other["logprob"] for other in token["top_logprobs"]}
            assert shown[tuple(token["bytes"])] == token["logprob"]

    @settings(deadline=None)
    @given(distributions(), tokenizers, st.data())
    def test_the_bytes_are_the_content_and_the_content_is_the_label(
        self, probabilities: dict[str, float], tokenizer: Any, data: st.DataObject
    ) -> None:
        chosen = data.draw(st.sampled_from(sorted(probabilities)))
        choice = label_answer(probabilities, chosen, tokenizer=tokenizer)
        spelled = b"".join(bytes(token["bytes"]) for token in tokens_of(choice))
        assert spelled.decode() == choice["message"]["content"]
        assert json.loads(choice["message"]["content"]) == {"label": chosen}

    def test_labels_have_several_tokens_and_share_the_first_ones(self) -> None:
        probabilities = {"Consumer electronics": 0.5, "Consumer goods": 0.3, "Energy": 0.2}
        tokens = tokens_of(label_answer(probabilities, "Consumer goods"))[VALUE_START:]
        assert [bytes(token["bytes"]) for token in tokens] == [
            b"Cons",
            b"umer",
            b" goo",
            b"ds",
            b'"}',
        ]
        first, second, third, *rest = (math.exp(token["logprob"]) for token in tokens)
        assert first == pytest.approx(0.8)  # both Consumer labels
        assert second == 1
        assert third == pytest.approx(0.3 / 0.8)
        assert rest == [1, 1]

    def test_near_1_the_logprob_keeps_what_is_missing(self) -> None:
        choice = label_answer({"a": 1, "b": 1e-18}, "a")
        assert tokens_of(choice)[VALUE_START]["logprob"] == pytest.approx(-1e-18, rel=1e-9)

    def test_a_label_that_is_a_prefix_ends_where_the_other_goes_on(self) -> None:
        tokens = tokens_of(label_answer({"ship": 0.25, "shipping": 0.75}, "ship"))[VALUE_START:]
        assert [bytes(other["bytes"]) for other in tokens[1]["top_logprobs"]] == [b"ping", b'"}']
        assert math.exp(tokens[1]["logprob"]) == pytest.approx(0.25)


class TestTopLogprobs:
    def test_as_many_as_asked_for_with_the_most_probable_first(self) -> None:
        probabilities = {f"{letter}x": 1 / (n + 1) for n, letter in enumerate("abcdefgh")}
        first = tokens_of(label_answer(probabilities, "hx", top_logprobs=3))[VALUE_START]
        assert [other["token"] for other in first["top_logprobs"]] == ["ax", "bx", "cx"]
        assert first["token"] == "hx"

    def test_none_asked_for(self) -> None:
        tokens = tokens_of(label_answer({"a": 0.9, "b": 0.1}, "a", top_logprobs=0))
        assert all(token["top_logprobs"] == [] for token in tokens)
        assert tokens[VALUE_START]["logprob"] == pytest.approx(math.log(0.9))

    def test_no_logprobs_at_all(self) -> None:
        assert label_answer({"a": 1}, "a", logprobs=False)["logprobs"] is None

    def test_probability_0_is_left_out_and_written_as_openai_does_when_chosen(self) -> None:
        first = tokens_of(label_answer({"a": 1, "b": 0}, "b"))[VALUE_START]
        assert first["logprob"] == -9999.0
        assert [other["token"] for other in first["top_logprobs"]] == ["a"]

    @pytest.mark.parametrize(
        "probabilities", [{"a": 0.0}, {"a": -0.1, "b": 1.1}, {"a": math.nan}, {"a": math.inf}]
    )
    def test_no_distribution(self, probabilities: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="non-negative and finite"):
            label_answer(probabilities, "a")


class TestChoose:
    PROBABILITIES = {"a": 0.2, "b": 0.5, "c": 0.3}  # noqa: RUF012 - a constant of the class

    def test_temperature_0_takes_the_most_probable(self) -> None:
        assert choose(self.PROBABILITIES, temperature=0) == "b"

    def test_a_seed_repeats_itself(self) -> None:
        drawn = [choose(self.PROBABILITIES, temperature=1, seed=seed) for seed in range(50)]
        assert drawn == [choose(self.PROBABILITIES, temperature=1, seed=seed) for seed in range(50)]

    def test_temperature_1_samples_the_distribution(self) -> None:
        drawn = [choose(self.PROBABILITIES, temperature=1, seed=seed) for seed in range(4000)]
        shares = {label: drawn.count(label) / 4000 for label in self.PROBABILITIES}
        assert shares == pytest.approx(self.PROBABILITIES, abs=0.04)  # 5 standard errors

    def test_a_low_temperature_sharpens(self) -> None:
        drawn = [choose(self.PROBABILITIES, temperature=0.1, seed=seed) for seed in range(200)]
        assert drawn.count("b") > 180


def body(**changes: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}}
    return {
        "model": "m",
        "messages": [{"role": "user", "content": "<item>x</item>"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
        **changes,
    }


def with_enum(enum: Any) -> dict[str, Any]:
    schema = {"properties": {"label": {"enum": enum}}}
    return body(response_format={"json_schema": {"schema": schema}})


class TestReadRequest:
    @pytest.mark.parametrize(
        ("content", "item"),
        [
            ("Label this:\n<item>\ntea\n</item>", "tea"),
            ("no markers", "no markers"),
            # the last pair counts: an earlier one may be an example
            ("<item>an example</item> <item>tea</item>", "tea"),
            ("an end </item> without a start", "an end </item> without a start"),
            ("a start <item> without an end", "a start <item> without an end"),
            (
                [{"type": "text", "text": "<item>tea"}, {"type": "text", "text": "milk</item>"}],
                "tea\nmilk",
            ),
        ],
    )
    def test_finds_the_item(self, content: Any, item: str) -> None:
        messages = [
            {"role": "system", "content": "The item stands in <item> and </item>."},
            {"role": "user", "content": content},
        ]
        assert read_request(body(messages=messages)).item == item

    def test_finds_it_before_a_request_to_mend_the_answer(self) -> None:
        messages = [
            {"role": "user", "content": "<item>tea</item>"},
            {"role": "assistant", "content": "It is <item>a</item>."},
            {"role": "user", "content": "That was not a usable answer."},
        ]
        assert read_request(body(messages=messages)).item == "tea"

    def test_reads_the_options(self) -> None:
        request = read_request(body(logprobs=True, top_logprobs=5, temperature=0, seed=3))
        assert (request.logprobs, request.top_logprobs) == (True, 5)
        assert (request.temperature, request.seed) == (0, 3)
        assert request.labels == ("a", "b")

    @pytest.mark.parametrize(
        ("wrong", "param"),
        [
            ([], None),
            (body(stream=True), "stream"),
            (body(n=2), "n"),
            (body(messages=[]), "messages"),
            (body(messages=["hello"]), "messages"),
            (body(messages=[{"role": "system", "content": "x"}]), "messages"),
            (body(messages=[{"role": "user", "content": None}]), "messages"),
            (body(logprobs="yes"), "logprobs"),
            (body(logprobs=True, top_logprobs=21), "top_logprobs"),
            (body(logprobs=True, top_logprobs=-1), "top_logprobs"),
            (body(top_logprobs=5), "top_logprobs"),
            (body(temperature=3), "temperature"),
            (body(temperature=True), "temperature"),
            (body(temperature=math.nan), "temperature"),
            (body(response_format=None), "response_format"),
            (body(response_format={"type": "json_object"}), "response_format"),
            (with_enum([]), "response_format"),
            (with_enum(["a", "a"]), "response_format"),
            (with_enum(["a", 1]), "response_format"),
            (with_enum(["\ud800"]), "response_format"),
        ],
    )
    def test_names_what_it_cannot_honour(self, wrong: Any, param: str | None) -> None:
        with pytest.raises(RequestError) as raised:
            read_request(wrong)
        assert raised.value.param == param
