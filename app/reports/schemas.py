"""Figures on the wire: none without its interval and its population."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.labeling.budget_schemas import BudgetOut
from app.web.wire import Answer, example


class PopulationOut(Answer):
    """Whom a figure speaks for."""

    what: str
    of: int | None = Field(description="its size; none where the data do not tell")


class EstimateOut(Answer):
    """A figure with its interval; the value is none where nothing was observed."""

    value: float | None
    low: float
    high: float
    level: float
    n: int
    method: str
    population: PopulationOut


def _estimate(value: float, low: float, high: float, n: int, *, what: str = "") -> dict[str, Any]:
    """An example."""
    population = f"items reviewed by people and labelled by the model{what}"
    return {
        "value": value,
        "low": low,
        "high": high,
        "level": 0.95,
        "n": n,
        "method": "wilson",
        "population": {"what": population, "of": n},
    }


class LabelAgreementOut(Answer):
    label: str
    support: int = Field(description="items people gave this label")
    predicted: int = Field(description="items the model gave this label")
    precision: EstimateOut
    recall: EstimateOut
    f1: EstimateOut


class PartAgreementOut(Answer):
    """How model and people agree on one part of a value: a label of several, a field."""

    part: str
    tp: int = Field(description="both said it")
    fp: int = Field(description="the model alone")
    fn: int = Field(description="people alone")
    tn: int = Field(description="neither, where that is counted")
    accuracy: EstimateOut | None = None
    precision: EstimateOut | None = None
    recall: EstimateOut | None = None
    f1: EstimateOut | None = None


class BinAgreementOut(Answer):
    """Agreement where the confidence is in [low, high); none in both: it is unknown."""

    low: float | None
    high: float | None
    n: int
    agreed: int
    agreement: EstimateOut


class CoverageOut(Answer):
    """Which items these figures speak of, and which they do not."""

    reviewed: int = Field(description="items people decided: what the figures speak of")
    without_label: int = Field(
        description="of these, items the model gave no label of this schema: in no figure"
    )
    waiting: int = Field(description="items still in review: in no figure")
    accepted: int = Field(description="items the model decided alone: in no figure")
    note: str


class AgreementOut(Answer):
    model_config = example(
        kind="single_choice",
        label_schema_version=1,
        coverage={
            "reviewed": 13,
            "without_label": 1,
            "waiting": 171,
            "accepted": 804,
            "note": "Reviewed items are those the policy sent to people.",
        },
        accuracy=_estimate(0.75, 0.468, 0.911, 12),
        metrics={},
        cohen_kappa={**_estimate(0.5, 0.004, 0.996, 12), "method": "normal"},
        labels=[
            {
                "label": "billing",
                "support": 6,
                "predicted": 7,
                "precision": _estimate(0.714, 0.359, 0.918, 7, what=", labelled billing"),
                "recall": _estimate(0.833, 0.436, 0.97, 6, what=", labelled billing"),
                "f1": {**_estimate(0.769, 0.465, 0.932, 8), "method": "wilson_union"},
            }
        ],
        confusion=[[5, 2], [1, 4]],
        parts=[],
        by_confidence=[
            {
                "low": 0.5,
                "high": 0.7,
                "n": 12,
                "agreed": 9,
                "agreement": _estimate(0.75, 0.468, 0.911, 12, what=", confidence in [0.5, 0.7)"),
            }
        ],
    )

    kind: str = Field(description="of label")
    label_schema_version: int
    coverage: CoverageOut
    accuracy: EstimateOut = Field(description="share on which model and people say the same")
    metrics: dict[str, EstimateOut] = Field(
        description="means of the kind's own metrics; of single_choice there are none"
    )
    cohen_kappa: EstimateOut | None = Field(description="of single_choice")
    labels: list[LabelAgreementOut] = Field(description="of single_choice")
    confusion: list[list[int]] = Field(
        description="of single_choice: counts[predicted][actual], in the order of `labels`"
    )
    parts: list[PartAgreementOut] = Field(description="of values with parts")
    by_confidence: list[BinAgreementOut]


class PerCorrectLabelOut(Answer):
    """The mean cost of a label over the share of labels that people agree with.

    The cost is of all labels that a model was paid for in this project, the share of those that
    people reviewed under the present label schema, of whatever producer: where these differ much,
    so may the figure.
    """

    value: float | None = Field(description="none where nothing was reviewed")
    low: float
    high: float | None = Field(description="none where the agreement may be nothing")
    agreement: EstimateOut = Field(description="whose interval and population these are")


class CostOut(Answer):
    """What labels cost, in the currency of the labeler's prices."""

    currency: str | None = Field(description="none: the present labeler has no prices")
    this_month: float = Field(description="in the running month, UTC; what failed included")
    total: float
    labels: int = Field(
        description="labels that were had for the total, those included that came after their lease"
    )
    calls: int = Field(description="model calls that were made for them")
    per_label: float | None = Field(description="total / labels: what failed is in it")
    per_correct_label: PerCorrectLabelOut | None
    budget: BudgetOut


class EndpointOut(Answer):
    """How the model's endpoint does, for all projects that share it."""

    state: Literal["ok", "resting", "broken"] = Field(
        description="resting: it asked for patience; broken: it fails for everybody, so that "
        "nobody calls it but for a trial now and then"
    )
    until: datetime | None = Field(
        description="when it is called again; none: it may be called now"
    )
    said: str | None = Field(
        description="why, with the server's own error message where it has one; 300 characters "
        "at most"
    )


class StatsOut(Answer):
    """Where a project stands now."""

    model_config = example(
        items={"pending": 0, "labeling": 12, "accepted": 804, "in_review": 171, "completed": 13},
        total=1000,
        labels_per_second=58.3,
        queue_depth=166,
        leased=5,
        oldest_pending_seconds=None,
        oldest_in_review_seconds=41.5,
        cost={
            "currency": "USD",
            "this_month": 0.0312,
            "total": 0.0312,
            "labels": 988,
            "calls": 993,
            "per_label": 0.00003158,
            "per_correct_label": {
                "value": 0.0000421,
                "low": 0.0000347,
                "high": 0.0000675,
                "agreement": _estimate(0.75, 0.468, 0.911, 12),
            },
            "budget": {
                "monthly_limit": 50.0,
                "month": "2026-11",
                "spent": 0.0312,
                "reserved": 0.0004,
                "exhausted": False,
                "currency": "USD",
            },
        },
        endpoint={
            "state": "broken",
            "until": "2026-11-22T12:05:00Z",
            "said": "the model server answered 401: Incorrect API key provided: ***.",
        },
    )

    items: dict[str, int] = Field(description="number of items by state")
    total: int
    labels_per_second: float = Field(description="items routed in the last ten seconds, a second")
    queue_depth: int = Field(description="items that wait for a reviewer")
    leased: int = Field(description="items a reviewer holds")
    oldest_pending_seconds: float | None = Field(
        description="age since ingest of the oldest item that is not labelled yet"
    )
    oldest_in_review_seconds: float | None = Field(
        description="age since ingest of the oldest item in review"
    )
    cost: CostOut | None = Field(description="none where labels have no price")
    endpoint: EndpointOut | None = Field(description="none where labels are made elsewhere")
