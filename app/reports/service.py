"""Figures of a project, each with the population it speaks of."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np

from app.access.keys import Caller
from app.domain.agreement import (
    BIN_COUNT,
    BinAgreement,
    ModelAgreement,
    by_confidence_bin,
    model_agreement,
)
from app.domain.compared import ValueAgreement, value_agreement
from app.domain.intervals import Estimate, Population
from app.domain.kinds.base import LabelSchema
from app.domain.states import STATE_PREFIX, ItemState, counter_name
from app.errors import NotFoundError
from app.infra.db import Database
from app.ledger import counters
from app.projects.schema_cache import read_schema
from app.projects.service import require_visible
from app.reports import queries
from app.reports.cost import CostReport, read_cost
from app.review.verdict import PREFIX, AgreementCell, compared_prefix

RATE_WINDOW_SECONDS = 10
_REVIEWED = "items reviewed by people and labelled by the model"


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """Model against people over the items that people decided.

    Attributes:
        kind: of label.
        schema_version: the label schema of these reviews; those of earlier ones are not in it.
        reviewed: items people decided; what every figure speaks of.
        waiting: items still in review; in no figure.
        accepted: items the model decided alone; in no figure.
        agreement: the figures.
        bins: the same by confidence.
    """

    kind: str
    schema_version: int
    reviewed: int
    waiting: int
    accepted: int
    agreement: ModelAgreement
    bins: tuple[BinAgreement, ...]


@dataclass(frozen=True, slots=True)
class ValueReport:
    """The same for a kind of label whose values are compared by metrics."""

    kind: str
    schema_version: int
    reviewed: int
    waiting: int
    accepted: int
    agreement: ValueAgreement


class EndpointState(StrEnum):
    """Whether a model's endpoint is called."""

    OK = "ok"
    RESTING = "resting"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """How the endpoint of a project's labels does.

    Attributes:
        state: broken where it failed for everybody, else resting where it asked for patience.
        until: when it is called again; None where it may be called now.
        said: why, in our words and the server's; None where it is ok.
    """

    state: EndpointState
    until: datetime | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class StatsReport:
    """Where a project stands now.

    Attributes:
        by_state: number of items by state; every state is named.
        labels_per_second: items routed in the last ten seconds, a second.
        queue_depth: slots that wait for a reviewer.
        leased: slots that a reviewer holds.
        oldest_pending_seconds: age since ingest of the oldest item not labelled yet.
        oldest_in_review_seconds: age since ingest of the oldest item in review.
        cost: what the labels cost; None where they have no price.
        endpoint: how the model's does; None where labels are made elsewhere.
    """

    by_state: dict[str, int]
    labels_per_second: float
    queue_depth: int
    leased: int
    oldest_pending_seconds: float | None
    oldest_in_review_seconds: float | None
    cost: CostReport | None
    endpoint: EndpointReport | None


class ReportService:
    """Reads counters; nothing here grows with the number of items."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def agreement(
        self, project_id: uuid.UUID, *, caller: Caller
    ) -> AgreementReport | ValueReport:
        """How the model agrees with people.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        schema = await self._database.fetch_one(queries.SCHEMA, {"project_id": project_id})
        if schema is None:
            raise NotFoundError("no such project")
        labels = read_schema(schema["kind"], schema["definition"])
        counts = await counters.read(self._database, project_id, prefix="")
        states = {state: counts.get(counter_name(state), 0) for state in ItemState}
        if not labels.CONFUSION:
            return _value_report(labels, counts, schema["version"], states)
        cells = [
            (AgreementCell.parse(name), count)
            for name, count in counts.items()
            if name.startswith(PREFIX)
        ]
        cells = [(cell, n) for cell, n in cells if cell.schema_version == schema["version"]]
        return _report(cells, labels, schema["version"], states)

    async def stats(self, project_id: uuid.UUID, *, caller: Caller) -> StatsReport:
        """Counts, speed and age of what waits.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        schema = await self._database.fetch_one(queries.SCHEMA, {"project_id": project_id})
        if schema is None:
            raise NotFoundError("no such project")
        counts = await counters.read(self._database, project_id, prefix=STATE_PREFIX)
        waiting = await self._database.fetch_one(
            queries.WAITING,
            {"project_id": project_id, "window_seconds": RATE_WINDOW_SECONDS},
        )
        assert waiting is not None
        by_state = {state.value: counts.get(counter_name(state), 0) for state in ItemState}
        return StatsReport(
            by_state=by_state,
            labels_per_second=waiting["routed_in_window"] / RATE_WINDOW_SECONDS,
            queue_depth=max(0, by_state[ItemState.IN_REVIEW] - waiting["leased"]),
            leased=waiting["leased"],
            oldest_pending_seconds=waiting["oldest_pending_seconds"],
            oldest_in_review_seconds=waiting["oldest_in_review_seconds"],
            cost=await read_cost(
                self._database,
                project_id,
                agreement=lambda: self._accuracy(project_id, caller=caller),
            ),
            endpoint=await self._endpoint(project_id),
        )

    async def _endpoint(self, project_id: uuid.UUID) -> EndpointReport | None:
        row = await self._database.fetch_one(queries.ENDPOINT, {"project_id": project_id})
        if row is None:
            return None
        if not row["broken"] and not row["rests"]:
            return EndpointReport(EndpointState.OK)
        state = EndpointState.BROKEN if row["broken"] else EndpointState.RESTING
        # a broken one that has rested waits for its trial
        until = row["paused_until"] if row["rests"] else None
        return EndpointReport(state, until, row["said"])

    async def _accuracy(self, project_id: uuid.UUID, *, caller: Caller) -> Estimate:
        """The share of reviewed labels that people agree with."""
        return (await self.agreement(project_id, caller=caller)).agreement.accuracy


def _value_report(
    schema: LabelSchema, counts: dict[str, int], version: int, states: dict[ItemState, int]
) -> ValueReport:
    prefix = compared_prefix(version)
    agreement = value_agreement(
        schema,
        {
            name.removeprefix(prefix): count
            for name, count in counts.items()
            if name.startswith(prefix)
        },
        what=_REVIEWED,
    )
    return ValueReport(
        kind=schema.KIND,
        schema_version=version,
        reviewed=agreement.n + agreement.unanswered,
        waiting=states[ItemState.IN_REVIEW],
        accepted=states[ItemState.ACCEPTED],
        agreement=agreement,
    )


def _report(
    cells: list[tuple[AgreementCell, int]],
    schema: LabelSchema,
    version: int,
    states: dict[ItemState, int],
) -> AgreementReport:
    names = schema.part_names
    # plain lists while it is filled cell by cell: an array takes five times as long
    counts = [[0] * len(names) for _ in names]
    correct, sizes, unanswered = [0] * BIN_COUNT, [0] * BIN_COUNT, 0
    for cell, count in cells:
        if cell.predicted is None:
            unanswered += count
            continue
        counts[cell.predicted][cell.actual] += count
        sizes[cell.bin] += count
        correct[cell.bin] += count * (cell.predicted == cell.actual)
    confusion = np.array(counts, dtype=np.int64)
    reviewed = int(confusion.sum())
    # Reviewed items came by least confidence first, so nothing is claimed about any others; the
    # interval is that of items drawn like these.
    population = Population(_REVIEWED, of=reviewed)
    return AgreementReport(
        kind=schema.KIND,
        schema_version=version,
        reviewed=reviewed + unanswered,
        waiting=states[ItemState.IN_REVIEW],
        accepted=states[ItemState.ACCEPTED],
        agreement=model_agreement(
            confusion, labels=names, population=population, unanswered=unanswered
        ),
        bins=by_confidence_bin(correct, sizes, population=population),
    )
