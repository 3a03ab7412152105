"""What the Responses and the Decisions API send, down to a label, its confidence, or the reason."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.confidence import ConfidenceSource
from app.domain.kinds import parse_schema
from app.domain.unknown import UnknownReason
from app.labeling.answer import Reading, UnreadableResponseError, read_reply
from app.labeling.decisions import read_decision
from app.labeling.responses import read_response

SINGLE = parse_schema({"kind": "single_choice", "labels": ["spam", "ham"]})
MULTI = parse_schema({"kind": "multi_choice", "labels": ["spam", "ham"]})
TEXT = parse_schema({"kind": "text"})
RECORDED = Path(__file__).resolve().parents[3] / "shared/data/payloads/payloads_envelopes.jsonl"


def token(text: str, probability: float, *others: tuple[str, float]) -> dict[str, Any]:
    listed = [(text, probability), *others]
    return {
        "token": text,
        "bytes": list(text.encode()),
        "logprob": math.log(probability),
        "top_logprobs": [
            {"token": each, "bytes": list(each.encode()), "logprob": math.log(p)}
            for each, p in listed
        ],
    }


TOKENS = [token('{"label":"', 1.0), token("spam", 0.75, ("ham", 0.25)), token('"}', 1.0)]
SAID = {"type": "output_text", "text": '{"label":"spam"}', "annotations": [], "logprobs": TOKENS}


def message(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(content), **fields}


def response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "object": "response",
        "model": "served-model",
        "status": "completed",
        "output": list(output),
        "usage": {"input_tokens": 12, "output_tokens": 3},
        **fields,
    }


def read(body: object) -> Reading:
    reply = read_response(json.dumps(body).encode())
    return read_reply(reply, schema=SINGLE, text="some text")


class TestAResponse:
    @pytest.mark.parametrize(
        "output",
        [
            [message(SAID)],
            [{"type": "reasoning", "summary": []}, message(SAID)],
            # what it says it will do is not what it says
            [message({"type": "output_text", "text": "Let me see."}), message(SAID)],
            # in two parts
            [
                message(
                    {"type": "output_text", "text": '{"label":"', "logprobs": TOKENS[:1]},
                    {"type": "output_text", "text": 'spam"}', "logprobs": TOKENS[1:]},
                )
            ],
        ],
    )
    def test_is_a_label_with_its_confidence(self, output: list[dict[str, Any]]) -> None:
        reading = read(response(*output))
        assert reading.label == "spam"
        assert reading.score is not None
        assert reading.score.confidence == pytest.approx(0.75)
        assert reading.source is ConfidenceSource.LOGPROBS
        assert (reading.served.model, reading.served.finish_reason) == ("served-model", "stop")
        assert (reading.served.prompt_tokens, reading.served.completion_tokens) == (12, 3)

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (
                response(message({"type": "refusal", "refusal": "I can't help with that."})),
                UnknownReason.REFUSAL,
            ),
            (
                response(
                    message({"type": "output_text", "text": '{"label":"sp'}),
                    status="incomplete",
                    incomplete_details={"reason": "max_output_tokens"},
                ),
                UnknownReason.TRUNCATED,
            ),
            (
                response(status="incomplete", incomplete_details={"reason": "content_filter"}),
                UnknownReason.CONTENT_FILTER,
            ),
            (response(), UnknownReason.NO_CHOICES),
            (response({"type": "reasoning"}), UnknownReason.NO_CHOICES),
            (response(message()), UnknownReason.NO_CHOICES),
            (response(message({**SAID, "text": ""})), UnknownReason.EMPTY_ANSWER),
            (response(message({**SAID, "text": 7})), UnknownReason.EMPTY_ANSWER),
            (
                response(message({**SAID, "text": '{"label":"eggs"}'})),
                UnknownReason.LABEL_OUTSIDE_SCHEMA,
            ),
        ],
    )
    def test_without_a_label_says_why(self, body: dict[str, Any], reason: UnknownReason) -> None:
        reading = read(body)
        assert reading.label is None
        assert reading.unknown is not None
        assert reading.unknown.reason is reason

    @pytest.mark.parametrize(
        ("logprobs", "reason"),
        [
            (None, UnknownReason.NO_LOGPROBS),
            ([], UnknownReason.NO_LOGPROBS),
            ("none", UnknownReason.MALFORMED_LOGPROBS),
            (TOKENS[:2], UnknownReason.BYTES_DIFFER),
            # as the API answers without `top_logprobs`
            ([{**each, "top_logprobs": []} for each in TOKENS], UnknownReason.NO_ALTERNATIVES),
        ],
    )
    def test_without_usable_logprobs_keeps_its_label(
        self, logprobs: object, reason: UnknownReason
    ) -> None:
        reading = read(response(message({**SAID, "logprobs": logprobs})))
        assert reading.label == "spam"
        assert reading.unknown is not None
        assert reading.unknown.reason is reason

    @pytest.mark.parametrize(
        "body",
        [
            "<html>",
            [],
            {"choices": []},
            response(status="failed", error={"code": "server_error", "message": "x"}),
            response(status="in_progress"),
        ],
    )
    def test_that_is_none_is_unreadable(self, body: object) -> None:
        with pytest.raises(UnreadableResponseError):
            read(body)

    def test_of_a_real_server_is_read(self) -> None:
        if not RECORDED.exists():
            pytest.skip("the recorded answers are not beside the checkout")
        rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
        (recorded,) = (row["payload"] for row in rows if "responses-api" in row["id"])
        # the recording is YAML; its tokens and its text are looked up in it
        tokens = [
            {"bytes": [int(each) for each in re.findall(r"\d+", data)], "logprob": float(logprob)}
            for data, logprob in re.findall(
                r"- bytes:\n((?:\s+- \d+\n)+)\s+logprob: (\S+)\n", recorded
            )
        ]
        text = re.findall(r"\n +text: (.*)\n +type: output_text", recorded)[0]
        said = {"type": "output_text", "text": text, "logprobs": tokens}
        reply = read_response(json.dumps(response(message(said))).encode())
        reading = read_reply(reply, schema=TEXT, text="")
        assert reading.label == "The capital of Minas Gerais is Belo Horizonte."
        assert reading.score is not None
        assert 0.999 < reading.score.confidence < 1


def choice(probabilities: object, chosen: object = "spam", **fields: Any) -> dict[str, Any]:
    if isinstance(probabilities, dict):
        probabilities = [{"value": value, "probability": p} for value, p in probabilities.items()]
    return {
        "type": "choice",
        "name": "label",
        "choice": chosen,
        "confidence": 0.9,
        "probabilities": probabilities,
        **fields,
    }


def predicate(name: str, probability: object) -> dict[str, Any]:
    return {"type": "predicate", "name": name, "probability": probability}


REFUSED = {"type": "refusal", "name": None}


def decide(*answers: object, schema: Any = SINGLE) -> Reading:
    usage = {"input_tokens": 12, "output_tokens": 1}
    body = {"answers": list(answers), "model": "served-model", "usage": usage}
    return read_decision(json.dumps(body).encode(), schema=schema)


class TestADecision:
    def test_about_one_label_is_a_distribution(self) -> None:
        reading = decide(choice({"spam": 0.8, "ham": 0.15}))
        score = reading.score
        assert (reading.label, reading.source) == ("spam", ConfidenceSource.DECISIONS)
        assert score is not None
        assert score.confidence == pytest.approx(0.8 / 0.95)
        assert score.logit == pytest.approx(math.log(0.8 / 0.15))
        assert score.margin == pytest.approx(0.65 / 0.95)
        assert score.unseen == pytest.approx(0.05)
        assert score.alternatives == (("spam", 0.8), ("ham", 0.15))
        assert reading.evidence == [["label", [["spam", 0.8], ["ham", 0.15]]]]
        assert (reading.served.prompt_tokens, reading.served.completion_tokens) == (12, 1)

    def test_an_option_that_is_no_label_is_doubt(self) -> None:
        score = decide(choice({"spam": 0.8, "ham": 0.15, "neither": 0.05})).score
        assert score is not None
        assert score.off_label == pytest.approx(0.05)
        assert score.p_norm == pytest.approx(0.8 / 0.95)
        assert score.confidence == pytest.approx(0.8)
        assert score.logit == pytest.approx(math.log(4))

    def test_that_is_certain_still_ranks(self) -> None:
        sure = decide(choice({"spam": 1.0, "ham": 0.0})).score
        less = decide(choice({"spam": 1.0, "ham": 1e-6})).score
        assert sure is not None
        assert less is not None
        assert math.isfinite(sure.logit)
        assert sure.logit > less.logit

    def test_about_each_label_has_a_part_for_each(self) -> None:
        reading = decide(predicate("spam", 0.9), predicate("ham", 0.3), schema=MULTI)
        assert reading.score is not None
        assert reading.label == MULTI.encode(["spam"])
        parts = {part.name: (part.value, part.confidence) for part in reading.score.parts}
        assert parts == {"spam": (True, 0.9), "ham": (False, 0.7)}
        assert reading.score.confidence == 0.7
        assert reading.evidence == [["spam", 0.9], ["ham", 0.3]]

    def test_that_no_label_applies_is_an_answer(self) -> None:
        reading = decide(predicate("spam", 0.0), predicate("ham", 1e-3), schema=MULTI)
        assert reading.label == MULTI.encode([])
        assert reading.score is not None
        assert math.isfinite(reading.score.logit)

    @pytest.mark.parametrize(
        ("answers", "reason"),
        [
            ([REFUSED], UnknownReason.REFUSAL),
            ([], UnknownReason.WRONG_SHAPE),
            ([choice({}), choice({})], UnknownReason.WRONG_SHAPE),
            ([predicate("spam", 0.9)], UnknownReason.WRONG_SHAPE),
            (["spam"], UnknownReason.WRONG_SHAPE),
            ([choice({"eggs": 1.0}, "eggs")], UnknownReason.LABEL_OUTSIDE_SCHEMA),
            # a boolean is none of the values that were offered
            ([choice({"spam": 1.0}, True)], UnknownReason.WRONG_SHAPE),
        ],
    )
    def test_without_a_label_says_why(self, answers: list[Any], reason: UnknownReason) -> None:
        reading = decide(*answers)
        assert (reading.label, reading.repairable) == (None, False)
        assert reading.unknown is not None
        assert reading.unknown.reason is reason

    @pytest.mark.parametrize(
        ("answers", "reason"),
        [
            ([predicate("spam", 0.9), REFUSED], UnknownReason.REFUSAL),
            ([predicate("spam", 0.9), predicate("ham", math.nan)], UnknownReason.WRONG_SHAPE),
            ([predicate("spam", 0.9), predicate("ham", -0.1)], UnknownReason.WRONG_SHAPE),
            ([predicate("spam", 0.9), predicate("ham", None)], UnknownReason.WRONG_SHAPE),
            ([predicate("spam", 0.9)], UnknownReason.WRONG_SHAPE),
        ],
    )
    def test_about_each_label_needs_all_of_them(
        self, answers: list[Any], reason: UnknownReason
    ) -> None:
        reading = decide(*answers, schema=MULTI)
        assert reading.label is None
        assert reading.unknown is not None
        assert reading.unknown.reason is reason

    @pytest.mark.parametrize(
        ("probabilities", "reason"),
        [
            (None, UnknownReason.NO_ALTERNATIVES),
            ([], UnknownReason.NO_ALTERNATIVES),
            ({"ham": 0.9}, UnknownReason.NO_ALTERNATIVES),
            ({"spam": 0.8, "ham": 0.22}, UnknownReason.NOT_A_DISTRIBUTION),
            ({"spam": 0.8, "ham": -0.1}, UnknownReason.NOT_A_DISTRIBUTION),
            ({"spam": 0.8, "ham": math.nan}, UnknownReason.NOT_A_DISTRIBUTION),
            ({"spam": "0.8", "ham": 0.2}, UnknownReason.NOT_A_DISTRIBUTION),
            (["spam"], UnknownReason.NOT_A_DISTRIBUTION),
        ],
    )
    def test_with_unusable_probabilities_keeps_its_label(
        self, probabilities: object, reason: UnknownReason
    ) -> None:
        reading = decide(choice(probabilities))
        assert (reading.label, reading.score) == ("spam", None)
        assert reading.unknown is not None
        assert reading.unknown.reason is reason

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"answers": null}', b'{"choices": []}'])
    def test_that_is_none_is_unreadable(self, body: bytes) -> None:
        with pytest.raises(UnreadableResponseError):
            read_decision(body, schema=SINGLE)

    @given(masses=st.lists(st.floats(0, 1), min_size=2, max_size=2))
    def test_has_no_negative_mass_and_sums_to_1(self, masses: list[float]) -> None:
        score = decide(choice(dict(zip(["spam", "ham"], masses, strict=True)))).score
        if score is None:
            # too much in all, or nothing for what was chosen
            assert sum(masses) > 1.01 or masses[0] == 0
            return
        assert score.unseen is not None
        assert score.off_label is not None
        seen = [mass for _, mass in score.alternatives]
        assert min([*seen, score.unseen, score.off_label]) >= 0
        assert math.fsum([*seen, score.unseen, score.off_label]) == pytest.approx(1)
        assert 0 < score.confidence <= 1
        assert math.isfinite(score.logit)
