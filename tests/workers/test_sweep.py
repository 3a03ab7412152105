"""The sweep: what a dead worker, a lost message or a closed laptop left lying."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from app.domain.backoff import Backoff
from app.infra.ids import Kind, from_wire, to_wire
from app.labeling.drain import Drainer, DrainLimits
from app.labeling.sweep import LabelingSweep
from app.ledger import counters
from app.review.service import ReviewService
from tests.labeling.support import Stage
from tests.support.model_plays import FAULTS, Answer

APPEND = counters.append_of("(SELECT %(deltas)s::jsonb AS deltas)")


@dataclass
class Asked:
    """Wake-ups that are only remembered."""

    projects: list[uuid.UUID] = field(default_factory=list)

    def request(self, project_id: uuid.UUID) -> None:
        self.projects.append(project_id)

    def names(self) -> set[str]:
        return {to_wire(Kind.PROJECT, project) for project in self.projects}


@dataclass
class Sweeping:
    """A sweep with thresholds of the test's own."""

    sweep: LabelingSweep
    asked: Asked

    async def once(self) -> set[str]:
        """One round with all the help it gives; the projects it woke."""
        self.asked.projects.clear()
        await self.sweep.once(stopping=lambda: False)
        woken = self.asked.names()
        await self.sweep.close()
        return woken


def sweeping(stage: Stage, *, overdue_seconds: float = 3600.0, **limits: Any) -> Sweeping:
    asked = Asked()
    parts = stage.labeling.parts
    few: dict[str, Any] = {
        "calls_in_flight": 4,
        "deadline_seconds": 10.0,
        "lease_seconds": 60.0,
        "slice_seconds": 60.0,
        "backoff": Backoff(base=60.0),
    }
    drainer = Drainer(
        parts.database,
        parts.clients,
        asked,
        limits=DrainLimits(**(few | limits)),
        rng=random.Random(3),
        rates=parts.rates,
    )
    sweep = LabelingSweep(parts.database, asked, drainer, overdue_seconds=overdue_seconds)
    return Sweeping(sweep, asked)


async def make_work(stage: Stage, count: int = 6, **project: Any) -> str:
    made = await stage.api.make_project(**({"policy": {"kind": "accept_all"}} | project))
    await stage.api.send_items(made, [f"text {n}" for n in range(count)])
    return made


@pytest.fixture
async def alone(stage: Stage) -> None:
    """Nothing is left over from earlier tests that a sweep would help with."""
    await stage.sql.rows("UPDATE items SET next_attempt_at = 'infinity' WHERE state = 'pending'")
    await stage.sql.rows("DELETE FROM endpoint_pauses")


async def hand_to_a_dead_worker(stage: Stage, project: str, *, where: str = "TRUE") -> None:
    """Puts pending items into the hands of a worker whose lease has run out."""
    await stage.sql.rows(
        "WITH claimed AS (UPDATE items SET state = 'labeling', lease_token = gen_random_uuid(), "
        "lease_expires_at = now() - interval '1 second' "
        f"WHERE project_id = %(id)s AND state = 'pending' AND {where} RETURNING id) "
        "INSERT INTO counter_deltas (project_id, name, delta) "
        "SELECT %(id)s, d.name, d.sign * (SELECT count(*) FROM claimed) "
        "FROM (VALUES ('items.pending', -1), ('items.labeling', 1)) AS d (name, sign)",
        id=from_wire(Kind.PROJECT, project),
    )


class TestLostLeases:
    async def test_are_taken_back_with_a_loss_and_no_attempt(self, stage: Stage) -> None:
        project = await make_work(stage)
        await hand_to_a_dead_worker(stage, project)
        assert await sweeping(stage).once() >= {project}
        assert await stage.by_state(project) == {"pending": 6}
        rows = await stage.sql.rows(
            "SELECT DISTINCT losses, attempts, last_error FROM items WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        assert rows == [
            {"losses": 1, "attempts": 0, "last_error": "the worker that held it was lost"}
        ]
        assert (await stage.labeling.drain(project)).settled == 6

    async def test_that_live_are_left_alone(self, stage: Stage) -> None:
        project = await make_work(stage)
        await hand_to_a_dead_worker(stage, project)
        await stage.sql.rows(
            "UPDATE items SET lease_expires_at = now() + interval '1 minute' "
            "WHERE project_id = %(id)s AND rank > "
            "(SELECT min(rank) FROM items WHERE project_id = %(id)s)",
            id=from_wire(Kind.PROJECT, project),
        )
        await sweeping(stage).once()
        assert await stage.by_state(project) == {"pending": 1, "labeling": 5}

    async def test_are_all_taken_back_however_many(self, stage: Stage) -> None:
        project = await make_work(stage, 1200)
        await hand_to_a_dead_worker(stage, project)
        await sweeping(stage).once()
        assert await stage.by_state(project) == {"pending": 1200}
        # nobody need label them
        assert (await stage.api.http.delete(f"/v1/projects/{project}")).status_code == 204

    async def test_for_the_third_time_send_the_item_to_people(self, stage: Stage) -> None:
        project = await make_work(stage, 5)
        (poison,) = await stage.api.send_items(project, ["poison"])
        only = f"id = '{from_wire(Kind.ITEM, poison)}'"
        for losses in (1, 2, 3):
            await hand_to_a_dead_worker(stage, project, where=only)
            await sweeping(stage).once()
            assert (await stage.item(poison))["state"] == (
                "in_review" if losses == 3 else "pending"
            )
        shown = await stage.item(poison)
        assert shown["confidence"] == {"value": None, "source": None, "reason": "leases_lost"}
        assert shown["route_reason"] == "unknown_confidence"
        assert await stage.events(poison) == ["item.routed"]
        assert [entry["item_id"] for entry in await stage.queue(project)] == [poison]
        assert (await stage.labeling.drain(project)).settled == 5
        # a person decides it like any other
        (assignment,) = await stage.api.claim(project)
        assert (await stage.api.submit(assignment, "ham")).json()["agreed"] is None


class TestWakeUps:
    async def test_go_to_who_has_something_due(self, stage: Stage) -> None:
        due, done, later, resting = [await make_work(stage) for _ in range(4)]
        await stage.labeling.drain(done)
        await stage.sql.rows(
            "UPDATE items SET next_attempt_at = now() + interval '1 hour' "
            "WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, later),
        )
        model = f"model-{uuid.uuid4()}"
        resting = await stage.api.make_project(labeler={"model": model})
        await stage.api.send_items(resting, ["some text"])
        await stage.sql.rows(
            "INSERT INTO endpoint_pauses VALUES (%(endpoint)s, now() + interval '1 hour')",
            endpoint=f"default {model}",
        )
        woken = await sweeping(stage).once()
        assert due in woken
        assert not woken & {done, later, resting}

        await stage.sql.rows("UPDATE endpoint_pauses SET paused_until = now()")
        assert resting in await sweeping(stage).once()


@pytest.mark.usefixtures("alone")
class TestHelp:
    async def test_comes_when_due_work_has_waited_too_long(self, stage: Stage) -> None:
        project = await make_work(stage)
        assert project in await sweeping(stage, overdue_seconds=3600).once()
        assert stage.model.count == 0
        await stage.sql.rows(
            "UPDATE items SET next_attempt_at = now() - interval '2 hours' "
            "WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        await sweeping(stage, overdue_seconds=3600).once()
        assert await stage.by_state(project) == {"accepted": 6}

    async def test_comes_to_every_overdue_project_in_turn(self, stage: Stage) -> None:
        stage.model.latency = 0.01
        long, short = await make_work(stage, 300), await make_work(stage, 3)
        await sweeping(stage, overdue_seconds=0, slice_seconds=0.2).once()
        assert await stage.by_state(short) == {"accepted": 3}
        left = await stage.by_state(long)
        assert left["pending"] > 0
        assert left["accepted"] > 0
        stage.model.latency = 0
        await stage.labeling.drain(long)

    async def test_is_not_held_up_by_an_endpoint_that_rests(self, stage: Stage) -> None:
        limited = await make_work(stage)
        stage.model.script = [FAULTS["429_seconds"]] * 4
        await sweeping(stage, overdue_seconds=0).once()
        assert await stage.by_state(limited) == {"pending": 6}
        called = stage.model.count
        other = await make_work(stage, 1, labeler={"model": "another"})
        await sweeping(stage, overdue_seconds=0).once()
        assert await stage.by_state(other) == {"accepted": 1}
        assert stage.model.count == called + 1
        await stage.make_due(limited)

    async def test_for_a_project_that_cannot_be_drained_does_not_cost_the_others(
        self, stage: Stage
    ) -> None:
        broken, sound = await make_work(stage), await make_work(stage)
        await stage.sql.rows("ALTER TABLE label_schemas DISABLE TRIGGER never_updated")
        await stage.sql.rows(
            "UPDATE label_schemas SET definition = '{\"labels\": []}' WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, broken),
        )
        await stage.sql.rows("ALTER TABLE label_schemas ENABLE TRIGGER never_updated")
        await sweeping(stage, overdue_seconds=0).once()
        assert await stage.by_state(sound) == {"accepted": 6}
        assert await stage.by_state(broken) == {"pending": 6}
        assert (await stage.api.http.delete(f"/v1/projects/{broken}")).status_code == 204

    async def test_ends_when_the_sweeper_must_stop(self, stage: Stage) -> None:
        project = await make_work(stage)
        stage.model.default = [FAULTS["hang"]]
        stopping = False
        helped = sweeping(stage, overdue_seconds=0, stop_seconds=0.0)
        await helped.sweep.once(stopping=lambda: stopping)
        await stage.model.wait_for_calls(4)
        stopping = True
        await helped.sweep.close()
        assert await stage.by_state(project) == {"pending": 6}
        stage.model.default = [Answer()]
        await stage.labeling.drain(project)


class TestReviewLeases:
    async def test_that_ran_out_are_taken_back(self, stage: Stage) -> None:
        project = await stage.api.make_project()
        await stage.api.send_items(project, ["one", "two"])
        await stage.labeling.drain(project)
        gone, held = await stage.api.claim(project, 2)
        await stage.sql.expire(gone["id"])
        assert await ReviewService(stage.labeling.parts.database).expire() == 1
        assert [entry["item_id"] for entry in await stage.queue(project)] == [gone["item"]["id"]]
        assert (await stage.api.submit(held, "ham")).status_code == 200


class TestFoldingCounters:
    async def totals(self, stage: Stage, project: str) -> dict[str, int]:
        rows = await stage.sql.rows(
            "SELECT name, value FROM counter_totals WHERE project_id = %(id)s AND value <> 0",
            id=from_wire(Kind.PROJECT, project),
        )
        return {row["name"]: row["value"] for row in rows}

    async def deltas(self, stage: Stage, project: str) -> int:
        (row,) = await stage.sql.rows(
            "SELECT count(*) AS n FROM counter_deltas WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        return int(row["n"])

    async def test_changes_no_figure(self, stage: Stage) -> None:
        project = await make_work(stage, 20)
        await stage.labeling.drain(project)
        before = await stage.by_state(project)
        database = stage.labeling.parts.database
        assert from_wire(Kind.PROJECT, project) in await counters.unfolded_projects(database)
        await counters.fold(database, from_wire(Kind.PROJECT, project))
        assert await self.deltas(stage, project) == 0
        assert await stage.by_state(project) == before == {"accepted": 20}
        assert await self.totals(stage, project) == {"items.accepted": 20}
        assert from_wire(Kind.PROJECT, project) not in await counters.unfolded_projects(database)

    async def test_takes_several_steps_where_much_has_gathered(self, stage: Stage) -> None:
        project = await stage.api.make_project()
        for n in range(25):
            await stage.api.send_items(project, [f"text {n}"])
        assert await self.deltas(stage, project) == 25
        await counters.fold(
            stage.labeling.parts.database, from_wire(Kind.PROJECT, project), batch=10
        )
        assert await self.deltas(stage, project) == 0
        assert await self.totals(stage, project) == {"items.pending": 25}

    async def test_at_once_and_beside_writers_and_readers_loses_nothing(self, stage: Stage) -> None:
        project = await stage.api.make_project()
        project_id = from_wire(Kind.PROJECT, project)
        database = stage.labeling.parts.database
        done = asyncio.Event()

        async def write() -> None:
            for n in range(60):
                async with database.transaction() as connection:
                    await connection.execute(
                        APPEND, {"project_id": project_id, "deltas": Jsonb({"a": 1, "b": -n})}
                    )

        async def repeat(step: Callable[[], Awaitable[object]]) -> None:
            while not done.is_set():
                await step()

        async def read() -> None:
            # never half of a transaction, never a delta both folded and not
            seen = await counters.read(database, project_id, prefix="")
            count = seen.get("a", 0)
            assert 0 <= count <= 180

        others = [
            asyncio.create_task(repeat(lambda: counters.fold(database, project_id, batch=7)))
            for _ in range(3)
        ]
        others.append(asyncio.create_task(repeat(read)))
        await asyncio.gather(*(write() for _ in range(3)))
        done.set()
        await asyncio.gather(*others)
        await counters.fold(database, project_id)
        expected = {"a": 180, "b": -3 * sum(range(60))}
        assert await self.totals(stage, project) == expected
        assert await counters.read(database, project_id, prefix="") == expected
        await stage.sql.rows("DELETE FROM counter_totals WHERE project_id = %(id)s", id=project_id)


@pytest.mark.parametrize("name", ["a.", "b"])
class TestReadingCounters:
    async def test_by_prefix_takes_the_prefix_literally(self, stage: Stage, name: str) -> None:
        project = await stage.api.make_project()
        project_id = from_wire(Kind.PROJECT, project)
        database = stage.labeling.parts.database
        async with database.transaction() as connection:
            await connection.execute(
                APPEND,
                {"project_id": project_id, "deltas": Jsonb({"a.x": 1, "aXx": 2, "b": 3, "b%": 4})},
            )
        read = await counters.read(database, project_id, prefix=name)
        assert read == {"a.": {"a.x": 1}, "b": {"b": 3, "b%": 4}}[name]
        await stage.sql.rows("DELETE FROM counter_deltas WHERE project_id = %(id)s", id=project_id)
