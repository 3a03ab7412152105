"""From the bytes of a model server to a label, its confidence, or the reason why there is none."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from app.domain.kinds.single_choice import SingleChoiceSchema
from app.domain.labels import LabelSet
from app.domain.unknown import UnknownReason
from app.labeling.answer import Reading, UnreadableResponseError
from app.labeling.chat import read_completion

SCHEMA = SingleChoiceSchema(LabelSet.of(["spam", "ham"]))


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


def tokens() -> list[dict[str, Any]]:
    return [
        token('{"label":"', 1.0),
        token("spam", 0.75, ("ham", 0.25)),
        token('"}', 1.0),
    ]


def completion(content: str | None = '{"label":"spam"}', **choice: Any) -> dict[str, Any]:
    whole = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "finish_reason": "stop",
        "logprobs": {"content": tokens()},
        **choice,
    }
    return {
        "model": "served-model",
        "system_fingerprint": "fp_1",
        "choices": [whole],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }


def read(body: object) -> Reading:
    return read_completion(json.dumps(body).encode(), schema=SCHEMA, text="some text")


def reason(reading: Reading) -> UnknownReason | None:
    return None if reading.unknown is None else reading.unknown.reason


class TestAGoodAnswer:
    def test_is_a_label_with_its_confidence_and_its_evidence(self) -> None:
        reading = read(completion())
        assert reading.label == "spam"
        assert reading.score is not None
        assert reading.score.confidence == pytest.approx(0.75)
        assert reading.score.p_norm == pytest.approx(0.75)
        assert reading.unknown is None
        assert reading.answer == '{"label":"spam"}'
        assert reading.evidence is not None
        assert len(reading.evidence) == 3
        assert not reading.repairable

    def test_says_who_gave_it(self) -> None:
        served = read(completion()).served
        assert (served.model, served.system_fingerprint) == ("served-model", "fp_1")
        assert (served.prompt_tokens, served.completion_tokens) == (12, 3)
        assert served.finish_reason == "stop"


class TestNoCompletion:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b'{"choices": [{"message"',
            b"[]",
            b'"choices"',
            b"{}",
            b'{"choices": null}',
            b'{"choices": {}}',
            b'{"choices": [1]}',
            b'{"choices": ' + b"[" * 100_000,
            b'{"choices": [], "n": ' + b"9" * 5000 + b"}",
            b"\xff\xfe\x00",
        ],
    )
    def test_is_told_apart(self, body: bytes) -> None:
        with pytest.raises(UnreadableResponseError):
            read_completion(body, schema=SCHEMA, text="some text")


class TestAnAnswerWithoutALabel:
    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ({"choices": []}, UnknownReason.NO_CHOICES),
            (completion(""), UnknownReason.EMPTY_ANSWER),
            (completion(None), UnknownReason.EMPTY_ANSWER),
            (completion(message=None), UnknownReason.EMPTY_ANSWER),
            (completion(message={"content": 5}), UnknownReason.EMPTY_ANSWER),
            (completion("spam"), UnknownReason.NOT_JSON),
            (completion('{"label":"sp'), UnknownReason.TRUNCATED),
            (completion(finish_reason="length"), UnknownReason.TRUNCATED),
            (completion('{"label":"eggs"}'), UnknownReason.LABEL_OUTSIDE_SCHEMA),
            (completion('{"label":"\\ud800"}'), UnknownReason.LABEL_OUTSIDE_SCHEMA),
            (completion('["spam"]'), UnknownReason.WRONG_SHAPE),
        ],
    )
    def test_says_why_and_may_be_repaired(self, body: object, why: UnknownReason) -> None:
        reading = read(body)
        assert reading.label is None
        assert reading.score is None
        assert reason(reading) is why
        assert reading.repairable

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (completion(message={"refusal": "No."}), UnknownReason.REFUSAL),
            (completion(finish_reason="content_filter"), UnknownReason.CONTENT_FILTER),
        ],
    )
    def test_that_would_only_be_refused_again_may_not(
        self, body: object, why: UnknownReason
    ) -> None:
        reading = read(body)
        assert reading.label is None
        assert reason(reading) is why
        assert not reading.repairable


class TestALabelWithoutEvidence:
    @pytest.mark.parametrize(
        ("logprobs", "why"),
        [
            (None, UnknownReason.NO_LOGPROBS),
            ({"content": None}, UnknownReason.NO_LOGPROBS),
            ({"content": []}, UnknownReason.NO_LOGPROBS),
            ([], UnknownReason.NO_LOGPROBS),
            ("none", UnknownReason.NO_LOGPROBS),
            ({"content": {}}, UnknownReason.MALFORMED_LOGPROBS),
            ({"content": [*tokens()[:1], 5]}, UnknownReason.MALFORMED_LOGPROBS),
            ({"content": tokens()[:2]}, UnknownReason.BYTES_DIFFER),
        ],
    )
    def test_stands_with_unknown_confidence_and_is_not_asked_for_again(
        self, logprobs: object, why: UnknownReason
    ) -> None:
        reading = read(completion(logprobs=logprobs))
        assert reading.label == "spam"
        assert reading.score is None
        assert reason(reading) is why
        assert not reading.repairable


class TestWhatIsKept:
    def test_can_be_stored_whatever_the_server_wrote(self) -> None:
        body = completion("\0 \ud800 " + "x" * 50_000)
        body["model"] = "m\0" + "y" * 5000
        body["system_fingerprint"] = 7
        body["usage"] = {"prompt_tokens": 2**40, "completion_tokens": True}
        reading = read(body)
        assert reading.answer is not None
        assert len(reading.answer) == 20_000
        reading.answer.encode()
        assert "\0" not in reading.answer
        assert reading.served.model is not None
        assert len(reading.served.model) == 200
        assert "\0" not in reading.served.model
        assert reading.served.system_fingerprint is None
        assert reading.served.prompt_tokens is None
        assert reading.served.completion_tokens is None

    def test_choices_with_odd_members_are_read_too(self) -> None:
        assert read({"choices": [{}], "usage": "none"}).served.prompt_tokens is None
        assert read({"choices": [{"finish_reason": 4}]}).served.finish_reason is None
