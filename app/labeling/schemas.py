"""Predictions on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from app.items.schemas import ConfidenceOut
from app.web.wire import Answer


class AlternativeMassOut(Answer):
    label: str
    probability: float


class ChoiceScoreOut(Answer):
    """Where the confidence comes from; see docs/decisions/0004-confidence.md."""

    logit: float = Field(
        description="what the queue is ordered by; finite and distinct even where p is 1"
    )
    p_raw: float
    p_norm: float
    margin: float
    entropy: float
    off_label: float
    ambiguous: float
    unseen: float
    alternatives: list[AlternativeMassOut]


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
    id: str
    item_id: str
    label: str | None
    confidence: ConfidenceOut
    score: ChoiceScoreOut | None
    answer: str | None
    repaired: bool
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: int
    provenance: ProvenanceOut
    evidence: list[Any] | None = Field(
        description="the raw tokens with their alternatives, with `include=evidence`"
    )
    created_at: datetime


class PredictionsOut(Answer):
    data: list[PredictionOut]
