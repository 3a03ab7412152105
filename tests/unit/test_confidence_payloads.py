"""Real answers of real servers, kept beside the checkout; skipped where they are not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from app.domain.confidence import (
    ChoiceScore,
    Token,
    evidence_from_json,
    evidence_to_json,
    read_tokens,
)
from app.domain.labels import LabelSet
from app.domain.unknown import Unknown, UnknownReason
from tests.support.choices import score_single_choice

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "data" / "payloads"

pytestmark = pytest.mark.skipif(
    not PAYLOADS.is_dir(), reason="the recorded answers are not beside this checkout"
)


def rows(name: str) -> list[dict[str, Any]]:
    with (PAYLOADS / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def judgements() -> list[dict[str, Any]]:
    return [row["choice"] for row in rows("payloads_alpacaeval_gpt4turbo.jsonl")]


def read(choice: dict[str, Any]) -> tuple[Token, ...]:
    tokens = read_tokens(choice["logprobs"]["content"], content=choice["message"]["content"])
    assert isinstance(tokens, tuple), tokens
    return tokens


def test_every_judgement_is_read_and_kept_exactly() -> None:
    for choice in judgements():
        tokens = read(choice)
        kept = json.dumps(evidence_to_json(tokens), allow_nan=False)
        assert evidence_from_json(json.loads(kept)) == tokens


def test_their_distributions_keep_the_bounds_when_scored() -> None:
    # The answers are one bare token, nearly always `m` or `M`, which differ only in case and so
    # are one label here. Put into our layout, the real alternatives are shared out among it and
    # labels that other alternatives begin.
    labels = LabelSet.of(["m", "Neither", "Both", "Based on", "The model"])
    logits = []
    for choice in judgements():
        (token,) = read(choice)
        tokens = (Token(b'{"label":"', 0.0, ()), token, Token(b'"}', 0.0, ()))
        content = f'{{"label":"{token.data.decode()}"}}'
        score = score_single_choice(tokens, content=content, labels=labels)
        assert isinstance(score, ChoiceScore)
        assert score.label.casefold() == token.data.decode().casefold()
        masses = [each.mass for each in score.masses]
        assert min(*masses, score.ambiguous, score.off_label, score.unseen) >= 0.0
        assert math.fsum([*masses, score.ambiguous, score.off_label]) <= 1 + 1e-6
        assert score.p_raw == math.exp(token.logprob)
        assert 0.0 < score.confidence <= score.p_norm <= 1.0
        logits.append(score.logit)
    assert all(map(math.isfinite, logits))
    assert len(set(logits)) > 0.99 * len(logits)


def test_answers_of_another_shape_are_unknown_not_wrong() -> None:
    labels = LabelSet.of(["Science Fair", "Something else"])
    reasons = {}
    for row in rows("payloads_envelopes.jsonl"):
        payload = row["payload"]
        for choice in payload.get("choices", []) if isinstance(payload, dict) else []:
            content = (choice.get("message") or choice["delta"])["content"]
            tokens = read_tokens(choice["logprobs"]["content"], content=content)
            if isinstance(tokens, Unknown):
                reasons[row["id"]] = tokens.reason
                continue
            score = score_single_choice(tokens, content=content, labels=labels)
            assert isinstance(score, Unknown)
            reasons[row["id"]] = score.reason
    assert reasons == {
        "openai-gpt4o-structured": UnknownReason.WRONG_SHAPE,  # three fields, none of them ours
        "vllm-deepseek-degenerate": UnknownReason.BYTES_DIFFER,  # tokens of an empty content
        "groq-qwen3-stream-logprob-chunk": UnknownReason.TRUNCATED,  # it thinks first
    }
