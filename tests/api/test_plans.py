"""How reviewing finds its rows: by their keys, whatever the planner knows of the tables.

A statement is planned once a connection and keeps its plan. One that is planned while the tables
are small could read all of an index, or all that is in review, and would go on doing so when they
are large.
"""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from app.infra.db import SERVER_LIMITS, json_rows
from app.infra.ids import Kind, from_wire
from app.review import queries
from app.review.service import _claim_parameters
from app.settings import Settings
from tests.support.api import Api
from tests.support.plans import plan_nodes

# those that grow with the items
LARGE = {"review_queue", "assignments", "items", "item_payloads", "predictions", "reviews"}
SIZES = {"empty": 0, "a few": 20}


@pytest.fixture(params=SIZES)
async def filled(request: pytest.FixtureRequest, api: Api, settings: Settings) -> Any:
    """A connection in whose transaction a project has a queue of some size, not analysed."""
    project = from_wire(Kind.PROJECT, await api.make_project())
    options = " ".join(f"-c {name}={value}" for name, value in SERVER_LIMITS.items())
    with psycopg.connect(settings.database_url, options=options) as connection:
        connection.execute(
            "INSERT INTO items (id, project_id, rank, coin, audit_probability, train_probability, "
            "state, route, route_reason, unknown_reason, policy_id) "
            "SELECT gen_random_uuid(), %(project)s, random(), 'none', 0, 0, 'in_review', 'review', "
            "'unknown_confidence', 'not_json', policy_id FROM projects, "
            "generate_series(1, %(count)s) WHERE projects.id = %(project)s",
            {"project": project, "count": SIZES[request.param]},
        )
        connection.execute(
            "INSERT INTO review_queue (item_id, slot, project_id, round, score) "
            "SELECT id, 1, project_id, 1, random() FROM items WHERE project_id = %s",
            (project,),
        )
        connection.execute(
            "INSERT INTO assignments (id, project_id, item_id, slot, round, reviewer, state, "
            "lease_token, lease_expires_at, closed_at) "
            "SELECT gen_random_uuid(), project_id, id, 1, 1, 'ann', 'expired', gen_random_uuid(), "
            "now(), now() FROM items WHERE project_id = %s",
            (project,),
        )
        yield connection, project
        connection.rollback()


def parameters(project: uuid.UUID) -> dict[str, Any]:
    verdict = {"assignment_id": str(uuid.uuid4()), "reviewer": "ann", "deltas": {}, "events": []}
    return {
        **_claim_parameters(project, ["ann", "bob", "ann"]),
        "reviewer": "ann",
        "limit": 20,
        "assignment_id": uuid.uuid4(),
        "assignment_ids": f"{{{uuid.uuid4()},{uuid.uuid4()}}}",
        "lease_token": uuid.uuid4(),
        "projects": None,
        "state": "released",
        "rows": json_rows([verdict, verdict]),
    }


@pytest.mark.parametrize(
    "statement",
    [
        queries.CLAIM_TOGETHER,
        queries.CLAIM_ALONE,
        queries.STANDING,
        queries.RECORD_TOGETHER,
        queries.RECORD_ALONE,
        queries.PEEK,
        queries.HELD,
        queries.RENEW,
        queries.HAND_BACK,
    ],
    ids=[
        "claim together", "claim alone", "standing", "record together", "record alone", "peek",
        "held", "renew", "hand back",
    ],
)  # fmt: skip
class TestThePlan:
    async def test_meets_every_large_table_by_a_key(
        self, filled: tuple[psycopg.Connection[Any], uuid.UUID], statement: str
    ) -> None:
        connection, project = filled
        nodes = plan_nodes(connection, statement, parameters(project))
        met = [node for node in nodes if node.get("Relation Name") in LARGE]
        assert met
        for node in met:
            # a heap scan by bitmap has its condition below, at the index
            if node["Node Type"] in {"ModifyTable", "Bitmap Heap Scan"}:
                continue
            found_by = node.get("Index Cond") or node.get("TID Cond")
            assert found_by, node
            # by which nearly all of them could be found
            assert found_by != "(state = 'in_review'::text)", node
