"""Figures on the wire: none without its interval and its population."""

from __future__ import annotations

from pydantic import Field

from app.web.wire import Answer


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


class LabelAgreementOut(Answer):
    label: str
    support: int = Field(description="items people gave this label")
    predicted: int = Field(description="items the model gave this label")
    precision: EstimateOut
    recall: EstimateOut
    f1: EstimateOut


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
    without_label: int = Field(description="of these, items the model gave no label: in no figure")
    waiting: int = Field(description="items still in review: in no figure")
    accepted: int = Field(description="items the model decided alone: in no figure")
    note: str


class AgreementOut(Answer):
    label_schema_version: int
    coverage: CoverageOut
    accuracy: EstimateOut
    cohen_kappa: EstimateOut
    labels: list[LabelAgreementOut]
    confusion: list[list[int]] = Field(
        description="counts[predicted][actual], both in the order of `labels`"
    )
    by_confidence: list[BinAgreementOut]


class StatsOut(Answer):
    """Where a project stands now."""

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
