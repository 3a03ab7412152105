"""Predictions on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from app.items.schemas import AlternativeOut, ConfidenceOut, PartOut
from app.web.wire import Answer, example


class ScoreOut(Answer):
    """What the confidence was made from; see docs/decisions/0004-confidence.md.

    What a kind of label or a source of confidence does not have is null.
    """

    logit: float = Field(
        description="log-odds of the confidence, by which the queue is ordered; finite, and "
        "distinct even where the confidence is 1"
    )
    p_raw: float | None = Field(description="probability of the very tokens of the label")
    p_norm: float | None = Field(
        description="share of the mass that is, or may be, on a label; the confidence is less "
        "where some is off the labels"
    )
    margin: float | None = Field(description="share of the likeliest label less that of the second")
    entropy: float | None = Field(description="in nats, of these shares")
    off_label: float | None = Field(description="mass on what can become no label: doubt")
    ambiguous: float | None = Field(
        description="mass on what can still become several labels: doubt"
    )
    unseen: float | None = Field(description="mass of what the server did not list")
    alternatives: list[AlternativeOut]
    parts: list[PartOut] = Field(description="of a value with parts, least certain first")
    figures: dict[str, float] = Field(description="further figures of the kind or the source")


class PredictionCostOut(Answer):
    """What the requests of a label cost, by the labeler's prices."""

    amount: float
    currency: str


class ProvenanceOut(Answer):
    """Who said it, asked how."""

    labeler_id: str
    labeler_revision: int
    model: str
    served_model: str | None
    system_fingerprint: str | None
    prompt_version: str
    prompt_hash: str
    parameters: dict[str, Any]
    label_schema_id: str
    label_schema_version: int


class PredictionOut(Answer):
    model_config = example(
        id="prd_01k2m3n4p5q6r7s8t9v0w1x2y3",
        item_id="itm_01k2m3n4p5q6r7s8t9v0w1x2y3",
        label="billing",
        confidence={"value": 0.62, "source": "logprobs", "reason": None},
        score={
            "logit": 0.4895,
            "p_raw": 0.62,
            "p_norm": 0.62,
            "margin": 0.24,
            "entropy": 0.664,
            "off_label": 0.0,
            "ambiguous": 0.0,
            "unseen": 0.0,
            "alternatives": [
                {"label": "billing", "probability": 0.62},
                {"label": "bug", "probability": 0.38},
            ],
            "parts": [],
            "figures": {},
        },
        answer='{"label":"billing"}',
        repaired=False,
        finish_reason="stop",
        prompt_tokens=85,
        completion_tokens=6,
        latency_ms=412,
        calls=1,
        cost={"amount": 0.000017, "currency": "USD"},
        provenance={
            "labeler_id": "lbr_01k2m3n4p5q6r7s8t9v0w1x2y3",
            "labeler_revision": 1,
            "model": "gpt-4o-mini",
            "served_model": "gpt-4o-mini-2024-07-18",
            "system_fingerprint": "fp_0a1b2c3d4e",
            "prompt_version": "single_choice/1",
            "prompt_hash": "1f0c6a7b9e2d4c58",
            "parameters": {"temperature": 0.0, "top_logprobs": 20},
            "label_schema_id": "sch_01k2m3n4p5q6r7s8t9v0w1x2y3",
            "label_schema_version": 1,
        },
        evidence=None,
        created_at="2026-11-22T12:00:02Z",
    )

    id: str
    item_id: str
    label: Any
    confidence: ConfidenceOut
    score: ScoreOut | None
    answer: str | None
    repaired: bool
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: int
    calls: int | None = Field(description="requests it took; null of one made elsewhere")
    cost: PredictionCostOut | None = Field(description="null where the labeler has no prices")
    provenance: ProvenanceOut
    evidence: list[Any] | None = Field(
        description="the raw tokens with their alternatives, with `include=evidence`"
    )
    created_at: datetime


class PredictionsOut(Answer):
    data: list[PredictionOut]
