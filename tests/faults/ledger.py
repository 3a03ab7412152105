"""What must be in the database after everything: looked for row by row, whatever was done to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.infra.ids import Kind, from_wire
from app.reports.invariants import check_invariants
from tests.faults.clients import Annotator, Sender
from tests.faults.support import Service
from tests.support import processes


async def label_all(service: Service, project: str) -> None:
    """Starts the worker until nothing of a project waits for it."""
    service.worker.start()
    try:
        await service.until_value(
            "SELECT count(*) FROM items WHERE state IN ('pending', 'labeling') "
            "AND project_id = %(project)s",
            0,
            patience=10 * processes.PATIENCE,
            project=from_wire(Kind.PROJECT, project),
        )
    finally:
        service.worker.kill()


async def count_acknowledged(service: Service, senders: Sequence[Sender]) -> int:
    """How many items were acknowledged, each of which is there, by its external id once."""
    for sender in senders:
        stored = await service.rows(
            "SELECT id, external_id FROM items WHERE project_id = %(project)s",
            project=from_wire(Kind.PROJECT, sender.project),
        )
        mine = {row["external_id"]: row["id"] for row in stored if _is_of(row, sender)}
        assert len(mine) == sum(_is_of(row, sender) for row in stored)
        assert mine == {
            external: from_wire(Kind.ITEM, item) for external, item in sender.acknowledged.items()
        }
        assert {from_wire(Kind.ITEM, item) for item in sender.anonymous} <= {
            row["id"] for row in stored
        }
        assert len(set(sender.anonymous)) == len(sender.anonymous)
    return sum(len(sender.acknowledged) + len(sender.anonymous) for sender in senders)


def _is_of(row: dict[str, str | None], sender: Sender) -> bool:
    return (row["external_id"] or "").startswith(f"{sender.name}-")


async def count_reviews(service: Service, annotators: Sequence[Annotator]) -> int:
    """How many verdicts were acknowledged, each of which is there once and as it was given."""
    stored = {
        row["id"]: (row["item_id"], row["label"])
        for row in await service.rows("SELECT id, item_id, label FROM reviews")
    }
    for annotator in annotators:
        for review, item in annotator.acknowledged.items():
            kept = stored[from_wire(Kind.REVIEW, review)]
            assert kept == (from_wire(Kind.ITEM, item), annotator.label)
    items = [item for annotator in annotators for item in annotator.acknowledged.values()]
    assert len(set(items)) == len(items)
    return len(items)


@dataclass(frozen=True)
class Labelled:
    """How the items of a service stand when all is over.

    Attributes:
        once: items with a label and one prediction.
        poison: items that lost three workers and went to people for it.
    """

    once: int
    poison: int


async def count_labelled(service: Service) -> Labelled:
    """Every item has exactly one prediction, or went to people for losing three workers.

    The counters say what a recount says, and no invariant is broken.
    """
    rows = await service.rows(
        "SELECT i.project_id, i.state, i.label IS NOT NULL AS labelled, "
        "i.unknown_reason = 'leases_lost' AS poison, "
        "(SELECT count(*) FROM predictions p WHERE p.item_id = i.id) AS predictions "
        "FROM items i"
    )
    found = Counter(
        (row["state"], row["labelled"], bool(row["poison"]), row["predictions"]) for row in rows
    )
    poison = found.pop(("in_review", False, True, 0), 0)
    once = sum(
        found.pop((state, True, False, 1), 0) for state in ("accepted", "in_review", "completed")
    )
    assert not found, f"not labelled exactly once: {found}"
    for project in {row["project_id"] for row in rows}:
        await _counters_are_right(service, project)
    assert await check_invariants(service.settings.database_url) == []
    return Labelled(once, poison)


async def _counters_are_right(service: Service, project: object) -> None:
    recounted = await service.rows(
        "SELECT state, count(*)::int AS n FROM items WHERE project_id = %(project)s GROUP BY state",
        project=project,
    )
    counted = await service.rows(
        "SELECT name, sum(value)::int AS n FROM ("
        "  SELECT project_id, name, value FROM counter_totals"
        "  UNION ALL SELECT project_id, name, delta FROM counter_deltas) parts "
        "WHERE project_id = %(project)s AND starts_with(name, 'items.') GROUP BY name",
        project=project,
    )
    assert {f"items.{row['state']}": row["n"] for row in recounted} == {
        row["name"]: row["n"] for row in counted if row["n"]
    }
