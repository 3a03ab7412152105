"""How the server finds work: by the index made for it, before it has counted anything.

A project is at its largest just after an import, when nothing has been analysed yet. Sorting all
that is due made every claim cost 300 ms at 300,000 items, against 8.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from app.infra.db import SERVER_LIMITS
from app.infra.ids import Kind, from_wire
from app.labeling import budget_queries, queries
from app.labeling.assembly import SERVER_SETTINGS
from app.ledger import counters
from app.settings import Settings
from tests.support.api import Api
from tests.support.plans import plan_nodes

MANY = 50_000


@pytest.fixture(scope="module")
async def imported(
    api: Api, settings: Settings
) -> AsyncIterator[tuple[psycopg.Connection[Any], uuid.UUID]]:
    """A connection in whose transaction a project has just become large."""
    project = from_wire(Kind.PROJECT, await api.make_project())
    chosen = {**SERVER_LIMITS, **SERVER_SETTINGS}
    options = " ".join(f"-c {name}={value}" for name, value in chosen.items())
    with psycopg.connect(settings.database_url, options=options) as connection:
        connection.execute(
            "INSERT INTO items (id, project_id, rank, coin, audit_probability, train_probability) "
            "SELECT gen_random_uuid(), %s, random(), 'none', 0, 0 FROM generate_series(1, %s)",
            (project, MANY),
        )
        connection.execute(
            "INSERT INTO counter_deltas (project_id, name, delta) "
            "SELECT %s, 'items.pending', 1 FROM generate_series(1, %s)",
            (project, MANY),
        )
        yield connection, project
        connection.rollback()


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (queries.CLAIM, "ix_items_pending"),
        (queries.CLAIM, "ix_items_lost"),
        (queries.CLAIM_SUSPECT, "ix_items_suspect"),
        (queries.DUE_PROJECTS, "ix_items_due"),
        (queries.EXPIRE, "ix_items_leased"),
        (budget_queries.SPENT, "ix_counter_deltas_project_id"),
        (counters._FOLD, "ix_counter_deltas_project_id"),
        (counters._UNFOLDED, "ix_counter_deltas_project_id"),
    ],
    ids=["claim", "the lost", "a suspect", "due projects", "expire", "spent", "fold", "unfolded"],
)
class TestThePlan:
    async def test_uses_the_index_made_for_it(
        self,
        imported: tuple[psycopg.Connection[Any], uuid.UUID],
        statement: str,
        index: str,
    ) -> None:
        connection, project = imported
        nodes = plan_nodes(
            connection,
            statement,
            {
                "project_id": project,
                "endpoint": "default any",
                "token": uuid.uuid4(),
                "lease_seconds": 60.0,
                "limit": 64,
                "max_losses": 3,
                "reserving": False,
                "counter": "cost.2026-11",
            },
        )
        assert index in {node.get("Index Name") for node in nodes}
        scanned = {node.get("Relation Name") for node in nodes if node["Node Type"] == "Seq Scan"}
        assert not scanned & {"items", "counter_deltas"}
        # nothing that grows with what waits is gathered first
        assert not any(
            node["Node Type"] == "Sort" and "rank" in str(node["Sort Key"]) for node in nodes
        )
