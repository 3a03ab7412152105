from __future__ import annotations

from typing import Literal

from fastapi import Request
from psycopg.rows import DictRow

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.infra.ids import Kind, to_wire
from app.items.routes import show_confidence, show_parts
from app.items.schemas import AlternativeOut
from app.labeling.predictions import PredictionService
from app.labeling.schemas import (
    PredictionCostOut,
    PredictionOut,
    PredictionsOut,
    ProvenanceOut,
    ScoreOut,
)
from app.web.paging import path_id

router = secured_router("predictions")


@router.get(
    "/items/{item_id}/predictions",
    operation_id="list_predictions",
    openapi_extra=needs(Scope.READ),
)
async def list_predictions(
    request: Request,
    item_id: str,
    caller: CurrentCaller,
    include: Literal["evidence"] | None = None,
) -> PredictionsOut:
    """Every answer of a labeler for an item, newest first, with its confidence and provenance."""
    service: PredictionService = request.app.state.services.predictions
    rows = await service.list_predictions(
        path_id(Kind.ITEM, item_id), with_evidence=include == "evidence", caller=caller
    )
    return PredictionsOut(data=[_show(row) for row in rows])


def _show(row: DictRow) -> PredictionOut:
    plain = (
        "label", "answer", "repaired", "finish_reason", "prompt_tokens", "completion_tokens",
        "latency_ms", "calls", "evidence", "created_at",
    )  # fmt: skip
    return PredictionOut(
        id=to_wire(Kind.PREDICTION, row["id"]),
        item_id=to_wire(Kind.ITEM, row["item_id"]),
        confidence=show_confidence(row),
        score=None if row["score"] is None else _show_score(row),
        cost=_show_cost(row),
        provenance=ProvenanceOut(
            labeler_id=to_wire(Kind.LABELER, row["labeler_id"]),
            labeler_revision=row["revision"],
            model=row["model"],
            served_model=row["served_model"],
            system_fingerprint=row["system_fingerprint"],
            prompt_version=row["prompt_version"],
            prompt_hash=row["prompt_hash"],
            parameters=row["parameters"],
            label_schema_id=to_wire(Kind.LABEL_SCHEMA, row["label_schema_id"]),
            label_schema_version=row["label_schema_version"],
        ),
        **{name: row[name] for name in plain},
    )


def _show_cost(row: DictRow) -> PredictionCostOut | None:
    if row["cost_micros"] is None:
        return None
    return PredictionCostOut(amount=row["cost_micros"] / 1e6, currency=row["currency"])


def _show_score(row: DictRow) -> ScoreOut:
    figures = ("p_raw", "p_norm", "margin", "entropy", "off_label", "ambiguous", "unseen")
    return ScoreOut(
        logit=row["score"],
        alternatives=[
            AlternativeOut(label=label, probability=mass)
            for label, mass in row["alternatives"] or []
        ],
        parts=show_parts(row),
        figures=row["figures"] or {},
        **{name: row[name] for name in figures},
    )
