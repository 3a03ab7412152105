"""What the database knows of the whole service, for /metrics: any API process tells the same.

Summed over all projects, since the number of projects has no bound. Looked up at most every five
seconds a process, whoever asks how often, and given up after two.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from psycopg.rows import DictRow

from app.domain.states import STATE_PREFIX, ItemState, counter_name
from app.infra.db import Database, is_unavailable
from app.infra.fresh import Fresh
from app.infra.jobs import SWEEPER_LOCK
from app.reports import queries

REMEMBER_SECONDS = 5.0
PATIENCE_SECONDS = 2.0
_LABELED = (ItemState.ACCEPTED, ItemState.IN_REVIEW, ItemState.COMPLETED)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """The service at one moment.

    Attributes:
        by_state: items by state; every state is named.
        labeled: items that have left labelling, those of deleted projects included.
        leased: review slots that a reviewer holds.
        oldest_pending_seconds: age since ingest of the oldest item not labelled yet; 0 if none is.
        oldest_in_review_seconds: age since ingest of the oldest item in review; 0 if none is.
        endpoints_resting: model endpoints that asked for patience and get it, or are broken.
        sweeping: whether a sweeper is active.
    """

    by_state: dict[ItemState, int]
    labeled: int
    leased: int
    oldest_pending_seconds: float
    oldest_in_review_seconds: float
    endpoints_resting: int
    sweeping: bool

    @property
    def queue_depth(self) -> int:
        """Review slots that wait for a reviewer."""
        return max(0, self.by_state[ItemState.IN_REVIEW] - self.leased)


class ServiceFacts:
    """Reads facts, and remembers what must not be forgotten with a deleted project."""

    def __init__(self, database: Database, *, seconds: float = REMEMBER_SECONDS) -> None:
        self._database = database
        self._facts: Fresh[None, Facts | None] = Fresh(self._read, seconds=seconds, max_kept=1)
        self._labeled: dict[uuid.UUID, int] = {}
        self._labeled_of_deleted = 0

    async def get(self) -> Facts | None:
        """The facts, a few seconds old at most; None: the database does not answer."""
        return await self._facts.get(None)

    async def metrics(self) -> list[Metric]:
        """The same as metrics."""
        return list(_families(await self.get()))

    async def _read(self, _question: None) -> Facts | None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                counts = await self._database.fetch_all(
                    queries.STATES_OF_ALL, {"names": [counter_name(state) for state in ItemState]}
                )
                waiting = await self._database.fetch_one(
                    queries.WAITING_OF_ALL, {"sweeper_lock": SWEEPER_LOCK}
                )
        except Exception as error:
            if isinstance(error, TimeoutError) or is_unavailable(error):
                _log.warning("no figures of the database: %s", type(error).__name__)
                return None
            raise
        assert waiting is not None
        return self._facts_of(counts, waiting)

    def _facts_of(self, counts: list[DictRow], waiting: DictRow) -> Facts:
        by_state = dict.fromkeys(ItemState, 0)
        labeled: dict[uuid.UUID, int] = {}
        for row in counts:
            state = ItemState(row["name"].removeprefix(STATE_PREFIX))
            by_state[state] += row["value"]
            if state in _LABELED:
                project = row["project_id"]
                labeled[project] = labeled.get(project, 0) + row["value"]
        # a total that falls reads as a restart, and the rest of it as new
        gone = self._labeled.keys() - labeled.keys()
        self._labeled_of_deleted += sum(self._labeled[project] for project in gone)
        self._labeled = labeled
        return Facts(
            by_state=by_state,
            labeled=sum(labeled.values()) + self._labeled_of_deleted,
            leased=waiting["leased"],
            oldest_pending_seconds=waiting["oldest_pending_seconds"],
            oldest_in_review_seconds=waiting["oldest_in_review_seconds"],
            endpoints_resting=waiting["endpoints_resting"],
            sweeping=waiting["sweeping"],
        )


def _families(facts: Facts | None) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "secondlook_database_up",
        "Whether the database answered when it was last asked for what follows.",
        value=facts is not None,
    )
    if facts is None:
        return
    states = GaugeMetricFamily("secondlook_items", "Items by state.", labels=["state"])
    for state, count in facts.by_state.items():
        states.add_metric([state.value], count)
    yield states
    yield CounterMetricFamily(
        "secondlook_items_labeled_total",
        "Items that have left labelling: with a label, or given up on for people.",
        value=facts.labeled,
    )
    for name, told, value in (
        ("queue_depth", "Review slots that wait for a reviewer.", facts.queue_depth),
        ("assignments_leased", "Review slots that a reviewer holds.", facts.leased),
        (
            "oldest_pending_seconds",
            "Age since ingest of the oldest item not labelled yet; 0 if none is.",
            facts.oldest_pending_seconds,
        ),
        (
            "oldest_in_review_seconds",
            "Age since ingest of the oldest item in review; 0 if none is.",
            facts.oldest_in_review_seconds,
        ),
        (
            "llm_endpoints_resting",
            "Model endpoints left alone: they asked for patience, or fail for everybody.",
            facts.endpoints_resting,
        ),
        ("sweeper_active", "Whether a sweeper is active.", facts.sweeping),
    ):
        yield GaugeMetricFamily(f"secondlook_{name}", told, value=value)
