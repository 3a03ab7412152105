"""Every invariant is broken by hand once, and the check names it: none of them is vacuous."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from app.reports.invariants import CHECKS, check_invariants
from app.settings import Settings
from tests.support import processes
from tests.support.model_server import ModelServer
from tests.support.populated import Project, copy_row, populate

# What breaks each invariant, in words of a populated project. A break may show in more than one
# invariant; the one it stands beside must be among them.
BREAKS: dict[str, list[str]] = {
    "items in review are in the queue, and nothing else is": [
        "DELETE FROM review_queue WHERE item_id = {waiting}",
        (
            "INSERT INTO review_queue (item_id, slot, project_id, round, score) VALUES "
            "({accepted}, 1, {id}, 1, 0)"
        ),
    ],
    "a queue slot is taken exactly while its assignment is leased": [
        "UPDATE review_queue SET assignment_id = NULL WHERE item_id = {leased}",
        (
            "UPDATE assignments SET state = 'released', closed_at = now() WHERE item_id = "
            "{leased} AND state = 'leased'"
        ),
    ],
    "an item that needs labelling has a lease or a due time": [
        (
            "ALTER TABLE items ALTER next_attempt_at DROP NOT NULL; UPDATE items SET "
            "next_attempt_at = NULL WHERE id = {pending}"
        ),
        (
            "ALTER TABLE items DROP CONSTRAINT ck_items_lease; UPDATE items SET "
            "lease_expires_at = NULL WHERE id = {labeling}"
        ),
    ],
    "an item has one final label exactly when it is accepted or completed": [
        "DELETE FROM final_labels WHERE item_id = {accepted}",
        copy_row("final_labels", "item_id = {completed}"),
    ],
    "the final label of an item is the newest one stored": [
        "UPDATE items SET final_label = 'spam' WHERE id = {completed}",
    ],
    "an item is labelled once": [
        copy_row("predictions", "item_id = {accepted}"),
    ],
    "an item shows its prediction": [
        "UPDATE items SET confidence = 0.123 WHERE id = {accepted}",
        "UPDATE items SET label = 'ham' WHERE id = {waiting}",
        (
            "UPDATE items SET prediction_id = (SELECT prediction_id FROM items WHERE id = "
            "{waiting}) WHERE id = {accepted}"
        ),
    ],
    "a completed item has a review, and a review completes its item": [
        "DELETE FROM reviews WHERE item_id = {completed}",
        "UPDATE items SET state = 'in_review', final_label = NULL WHERE id = {completed}",
    ],
    "a review has its submitted assignment": [
        "DELETE FROM assignments WHERE item_id = {completed} AND state = 'submitted'",
        "UPDATE reviews SET reviewer = 'somebody else' WHERE item_id = {completed}",
    ],
    "every item has its payload": ["DELETE FROM item_payloads WHERE item_id = {pending}"],
    "the outbox tells of a change once": [
        (
            "INSERT INTO events (id, project_id, type, data) SELECT gen_random_uuid(), "
            "project_id, type, data FROM events WHERE project_id = {id} AND type = "
            "'item.labeled' LIMIT 1"
        ),
    ],
    "the outbox holds as many events as there were changes": [
        (
            "DELETE FROM events WHERE id = (SELECT id FROM events WHERE project_id = {id} AND "
            "type = 'item.routed' LIMIT 1)"
        ),
        "DELETE FROM events WHERE project_id = {id} AND type = 'assignment.expired'",
        (
            "INSERT INTO events (id, project_id, type, data) VALUES (gen_random_uuid(), {id}, "
            "'review.submitted', '{{}}')"
        ),
        (
            "INSERT INTO budget_exhaustions (project_id, month, limit_micros) VALUES ({id}, "
            "'2026-11', 5)"
        ),
    ],
    "counters of states equal a recount": [
        "INSERT INTO counter_deltas (project_id, name, delta) VALUES ({id}, 'items.pending', 1)",
        (
            "INSERT INTO counter_totals (project_id, name, value) VALUES ({id}, "
            "'items.accepted', -1)"
        ),
        (
            "UPDATE items SET state = 'pending', lease_token = NULL, lease_expires_at = NULL "
            "WHERE id = {labeling}"
        ),
    ],
    "counters of agreement equal a recount": [
        "DELETE FROM counter_deltas WHERE project_id = {id} AND starts_with(name, 'agreement.')",
    ],
    "counters of compared values equal a recount": [
        (
            "INSERT INTO counter_deltas (project_id, name, delta) "
            "VALUES ({id}, 'compared.1.0.equal', 1)"
        ),
        "UPDATE reviews SET tally = '{{\"compared.1.0.equal\": 1}}' WHERE item_id = {completed}",
    ],
    "counters of cost equal what turns cost": [
        "INSERT INTO counter_deltas (project_id, name, delta) VALUES ({id}, 'cost.total', 1)",
        (
            "INSERT INTO spendings (project_id, token, item_id, month, micros, calls, labels, "
            "estimated) VALUES ({id}, gen_random_uuid(), {accepted}, '2026-11', 5, 1, 1, false)"
        ),
    ],
    "what a prediction cost was spent": [
        "UPDATE predictions SET cost_micros = 7 WHERE item_id = {accepted}",
    ],
    "a reservation has a live lease": [
        "UPDATE items SET reserved_micros = 5 WHERE id = {pending}",
    ],
    "what a budget reserves is what its leases hold": [
        "INSERT INTO budgets (project_id, reserved_micros) VALUES ({id}, 5)",
        "UPDATE items SET reserved_micros = 5 WHERE id = {labeling}",
    ],
    "no reviewer decides an item twice in a round": [
        (
            "ALTER TABLE reviews DROP CONSTRAINT uq_reviews_item_id_reviewer_round; "
            + copy_row("reviews", "item_id = {completed}", assignment_id="gen_random_uuid()")
        ),
    ],
}
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|itm_[0-9a-z]{26}")
CASES = [(name, break_) for name, breaks in BREAKS.items() for break_ in breaks]


@dataclass(frozen=True)
class Original:
    """A database to copy and spoil."""

    url: str
    project: Project


@pytest.fixture(scope="module")
async def original(
    new_database: Callable[[], AbstractContextManager[str]],
    make_settings: Callable[..., Settings],
) -> AsyncIterator[Original]:
    with new_database() as url, ModelServer() as model:
        settings = make_settings(database_url=url, openai_base_url=model.url)
        project, _ = await populate(settings, model)
        yield Original(url, project)


@pytest.fixture
def copy(original: Original) -> Iterator[str]:
    parts = urlsplit(original.url)
    name = f"copy_{os.getpid()}"
    admin_url = urlunsplit(parts._replace(path="/postgres"))
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {parts.path.lstrip('/')}")
        yield urlunsplit(parts._replace(path=f"/{name}"))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


class TestCheckInvariants:
    def test_every_invariant_is_broken_here(self) -> None:
        assert set(BREAKS) == set(CHECKS)

    async def test_a_healthy_database_has_none_broken(self, original: Original) -> None:
        assert await check_invariants(original.url) == []

    @pytest.mark.parametrize(
        ("invariant", "statements"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)]
    )
    async def test_a_broken_one_is_named_with_what_breaks_it(
        self, original: Original, copy: str, invariant: str, statements: str
    ) -> None:
        words = {name: f"'{value}'" for name, value in vars(original.project).items()}
        with psycopg.connect(copy) as connection:
            # without triggers and foreign keys: what a constraint refuses can't be tried
            connection.execute("SET session_replication_role = replica")
            for statement in statements.split("; "):
                cursor = connection.execute(statement.format(**words).encode())
            assert cursor.rowcount != 0
        violations = await check_invariants(copy)
        assert invariant in {violation.invariant for violation in violations}
        assert all(0 < len(each.rows) == each.count for each in violations)
        assert all(ID.search(row) for each in violations for row in each.rows)

    async def test_many_rows_are_counted_and_some_of_them_named(self, copy: str) -> None:
        with psycopg.connect(copy) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "INSERT INTO review_queue (item_id, slot, project_id, round, score) "
                "SELECT gen_random_uuid(), 1, id, 1, 0 FROM projects, generate_series(1, 60)"
            )
        told = {each.invariant: each for each in await check_invariants(copy)}
        many = told["items in review are in the queue, and nothing else is"]
        assert (many.count, len(many.rows)) == (120, 20)
        assert many.detail.endswith("; and 100 more")


class TestTheDoctor:
    def test_finds_nothing_wrong_with_a_healthy_database(self, original: Original) -> None:
        ran = doctor(original.url)
        assert (ran.returncode, ran.stdout) == (0, "0 violations\n")

    def test_names_what_is_violated_with_the_rows(self, original: Original, copy: str) -> None:
        item = original.project.waiting
        with psycopg.connect(copy) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("DELETE FROM review_queue WHERE item_id = %s", (item,))
        ran = doctor(copy)
        assert ran.returncode == 1
        assert ran.stdout == (
            "items in review are in the queue, and nothing else is: 1\n"
            f"  {item} in_review\n"
            "1 violations\n"
        )


def doctor(database_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "doctor"],
        env={**os.environ, "DATABASE_URL": database_url},
        cwd=processes.ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
