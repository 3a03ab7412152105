"""The drain loop: it stops, it outlasts what breaks around it, and it leaves nothing lying."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from app.domain.backoff import Backoff
from app.infra.ids import Kind, from_wire
from app.labeling.assembly import Labeling, open_labeling
from app.labeling.drain import Drainer, DrainLimits, DrainResult
from app.settings import Settings
from tests.labeling.plays import Gate
from tests.labeling.support import Stage
from tests.support.model_plays import FAULTS, Answer
from tests.support.model_server import ModelServer


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        call_deadline_seconds=60.0,
        label_lease_seconds=120.0,
    )


@dataclass
class Asked:
    """Wake-ups that are only remembered."""

    projects: list[uuid.UUID] = field(default_factory=list)

    def request(self, project_id: uuid.UUID) -> None:
        self.projects.append(project_id)


@dataclass
class Worker:
    """A drainer with limits of the test's own."""

    drainer: Drainer
    asked: Asked
    stopping: bool = False

    async def drain(self, project: str) -> DrainResult:
        return await self.drainer.drain(
            from_wire(Kind.PROJECT, project), stopping=lambda: self.stopping
        )

    def start(self, project: str) -> asyncio.Task[DrainResult]:
        return asyncio.create_task(self.drain(project))


def worker(stage: Stage, parts: Labeling | None = None, **limits: Any) -> Worker:
    asked = Asked()
    few: dict[str, Any] = {
        "calls_in_flight": 8,
        "deadline_seconds": 30.0,
        "lease_seconds": 60.0,
        "slice_seconds": 60.0,
        "stop_seconds": 0.0,
        "backoff": Backoff(base=0.01),
    }
    parts = parts or stage.labeling.parts
    drainer = Drainer(
        parts.database,
        parts.clients,
        asked,
        limits=DrainLimits(**(few | limits)),
        rng=random.Random(5),
        rates=parts.rates,
    )
    return Worker(drainer, asked)


async def make_work(stage: Stage, count: int = 20) -> str:
    project = await stage.api.make_project(policy={"kind": "accept_all"})
    await stage.api.send_items(project, [f"text {n}" for n in range(count)])
    return project


async def burned(stage: Stage, project: str) -> tuple[int, int]:
    """Attempts and losses of a project's items together."""
    (row,) = await stage.sql.rows(
        "SELECT sum(attempts)::int AS attempts, sum(losses)::int AS losses FROM items "
        "WHERE project_id = %(id)s",
        id=from_wire(Kind.PROJECT, project),
    )
    return row["attempts"], row["losses"]


@asynccontextmanager
async def nothing_leaks() -> AsyncIterator[None]:
    """Every task that begins in the block ends in it, and no error goes unseen."""
    loop = asyncio.get_running_loop()
    complaints: list[str] = []
    before = asyncio.all_tasks()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context["message"]))
    try:
        yield
        gc.collect()
        await asyncio.sleep(0)
        left = {task for task in asyncio.all_tasks() - before if "_run_one" not in repr(task)}
        assert {task.get_name() for task in left if "drain" in repr(task)} == set()
        assert complaints == []
    finally:
        loop.set_exception_handler(None)


@pytest.fixture
async def fragile(settings: Settings) -> AsyncIterator[Labeling]:
    """A worker's parts of their own, for tests that break their connections."""
    parts = await open_labeling(settings, application_name="secondlook-fragile")
    yield parts
    await parts.close()


async def break_connections(stage: Stage) -> int:
    """Terminates the fragile worker's backends, as a restart or an administrator does."""
    return len(
        await stage.sql.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'secondlook-fragile'"
        )
    )


class TestStopping:
    async def test_gives_back_what_is_in_flight_and_wakes_a_successor(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["hang"]]
        project = await make_work(stage)
        stopped = worker(stage)
        async with nothing_leaks():
            draining = stopped.start(project)
            await stage.model.wait_for_calls(8)
            stopped.stopping = True
            result = await draining
        assert result == DrainResult(0, work_remains=True)
        assert stopped.asked.projects[-1:] == [from_wire(Kind.PROJECT, project)]
        # nothing is leased, no attempt was burned and nobody was lost
        assert await stage.by_state(project) == {"pending": 20}
        assert await burned(stage, project) == (0, 0)
        # and all of it is due at once
        stage.model.default = [Answer()]
        assert (await worker(stage).drain(project)).settled == 20

    async def test_keeps_the_labels_that_came_in_time(self, stage: Stage) -> None:
        gate = Gate()
        stage.model.default = [gate]
        stage.model.rules = {"text 1": [FAULTS["hang"]]}
        project = await make_work(stage, 4)
        stopped = worker(stage, stop_seconds=30.0)
        draining = stopped.start(project)
        await stage.model.wait_for_calls(4)
        stopped.stopping = True
        gate.open()
        # three answers come within the patience; the one that hangs is not waited for for ever
        async with asyncio.timeout(60):
            while (await stage.by_state(project)).get("accepted", 0) < 3:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.02)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert await stage.by_state(project) == {"accepted": 3, "pending": 1}
        assert await burned(stage, project) == (3, 0)

    async def test_while_the_endpoint_rests_ends_at_once(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["429_seconds"]]
        project = await make_work(stage)
        stopped = worker(stage)
        stopped.stopping = False
        assert await stopped.drain(project) == DrainResult(0, work_remains=False)
        stopped.stopping = True
        assert (await stopped.drain(project)).settled == 0
        assert stage.model.count == 8
        await stage.make_due(project)

    async def test_before_it_began_claims_nothing(self, stage: Stage) -> None:
        project = await make_work(stage)
        stopped = worker(stage)
        stopped.stopping = True
        assert await stopped.drain(project) == DrainResult(0, work_remains=True)
        assert stage.model.count == 0
        assert await stage.by_state(project) == {"pending": 20}


class TestTheTimeSlice:
    async def test_ends_a_drain_that_then_wakes_its_successor(self, stage: Stage) -> None:
        stage.model.latency = 0.02
        project = await make_work(stage, 60)
        slices = 0
        settled = 0
        while settled < 60:
            hurried = worker(stage, slice_seconds=0.1)
            result = await hurried.drain(project)
            slices += 1
            settled += result.settled
            assert result.work_remains or settled == 60
            assert bool(hurried.asked.projects) or not result.work_remains
            assert slices < 500
        assert slices > 1
        assert await stage.by_state(project) == {"accepted": 60}

    async def test_asks_for_help_where_more_waits_than_one_can_carry(self, stage: Stage) -> None:
        project = await make_work(stage, 20)
        busy = worker(stage)
        assert (await busy.drain(project)).settled == 20
        assert busy.asked.projects == [from_wire(Kind.PROJECT, project)]
        idle = worker(stage)
        assert await idle.drain(project) == DrainResult(0, work_remains=False)
        assert idle.asked.projects == []


class TestCallsInFlight:
    async def test_are_as_many_as_allowed_and_no_more(self, stage: Stage) -> None:
        stage.model.latency = 0.02
        project = await make_work(stage, 60)
        await worker(stage, calls_in_flight=5).drain(project)
        assert stage.model.max_in_flight == 5

    async def test_may_be_one(self, stage: Stage) -> None:
        project = await make_work(stage, 5)
        result = await worker(stage, calls_in_flight=1).drain(project)
        assert result == DrainResult(5, work_remains=False)
        assert stage.model.max_in_flight == 1

    async def test_hold_no_transaction_open(self, stage: Stage) -> None:
        gate = Gate()
        stage.model.default = [gate]
        project = await make_work(stage)
        draining = worker(stage).start(project)
        await stage.model.wait_for_calls(8)
        await asyncio.sleep(0.1)
        (row,) = await stage.sql.rows(
            "SELECT count(*) AS open FROM pg_stat_activity WHERE datname = current_database() "
            "AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = "
            "'client backend'"
        )
        assert row["open"] == 0
        gate.open()
        await draining


class TestTheDatabaseAway:
    async def test_while_results_are_written_costs_no_label(
        self, stage: Stage, fragile: Labeling
    ) -> None:
        gate = Gate()
        stage.model.default = [gate]
        project = await make_work(stage, 8)
        async with nothing_leaks():
            draining = worker(stage, fragile).start(project)
            await stage.model.wait_for_calls(8)
            assert await break_connections(stage)
            gate.open()
            await asyncio.gather(draining, return_exceptions=True)
        # the drain may have ended with the error of its next claim; the labels are stored
        assert await stage.by_state(project) == {"accepted": 8}
        assert Counter(stage.model.calls_per_item.values()) == {1: 8}

    async def test_again_and_again_costs_no_item(self, stage: Stage, fragile: Labeling) -> None:
        stage.model.latency = 0.005
        project = await make_work(stage, 300)

        async def drain_all() -> None:
            while (await stage.by_state(project)).get("accepted", 0) < 300:
                with contextlib.suppress(psycopg.OperationalError):
                    await worker(stage, fragile).drain(project)
                # what a claim took whose answer was cut off with its connection
                await stage.lose_leases(project)
                await stage.labeling.sweep.expire()

        async with nothing_leaks(), asyncio.timeout(120):
            draining = asyncio.create_task(drain_all())
            broken = 0
            while not draining.done():
                await asyncio.sleep(0.05)
                if broken < 10:
                    broken += bool(await break_connections(stage))
            await draining
        assert broken > 1
        assert await stage.by_state(project) == {"accepted": 300}

    async def test_while_nobody_asks_costs_no_request(
        self, stage: Stage, fragile: Labeling
    ) -> None:
        database = fragile.database
        # all of the pool's connections are there and idle
        await asyncio.gather(*(database.fetch_one("SELECT pg_sleep(0.2)", {}) for _ in range(4)))
        assert await break_connections(stage) == 4
        for _ in range(10):
            assert await database.fetch_one("SELECT 1 AS one", {}) == {"one": 1}


class TestAnErrorThatPasses:
    @pytest.mark.parametrize("sqlstate", ["40P01", "55P03", "57P01"])
    async def test_is_tried_again(self, stage: Stage, sqlstate: str) -> None:
        project = await make_work(stage, 5)
        async with refusing(stage, "TRUE", sqlstate=sqlstate, times=2):
            assert (await worker(stage).drain(project)).settled == 5
        assert Counter(stage.model.calls_per_item.values()) == {1: 5}


@asynccontextmanager
async def refusing(
    stage: Stage, condition: str, *, sqlstate: str = "23514", times: int = 1_000_000
) -> AsyncIterator[None]:
    """A database that refuses to store predictions of which a condition holds."""
    await stage.sql.rows("CREATE SEQUENCE refusals")
    await stage.sql.rows(
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {condition} AND nextval('refusals') <= {times} THEN "
        f"RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}', DETAIL = NEW.answer; END IF; "
        f"RETURN NEW; END $$"
    )
    await stage.sql.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        yield
    finally:
        await stage.sql.rows("DROP TRIGGER refuse ON predictions")
        await stage.sql.rows("DROP FUNCTION refuse")
        await stage.sql.rows("DROP SEQUENCE refusals")


class TestARowThatCannotBeStored:
    async def test_costs_its_batch_nothing_and_goes_to_people(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        odd = {"other thing": 0.9, "spam": 0.05, "ham": 0.05}
        good = {"spam": 0.9, "ham": 0.05, "other thing": 0.05}
        stage.model.default = [Answer(probabilities=good)]
        stage.model.rules = {"text 3": [Answer(probabilities=odd)]}
        project = await make_work(stage, 8)
        async with refusing(stage, "NEW.label = 'other thing'"):
            with caplog.at_level(logging.INFO):
                for losses in range(3):
                    result = await worker(stage).drain(project)
                    assert result.settled == (7 if losses == 0 else 0)
                    await stage.lose_leases(project)
                    await stage.labeling.sweep.expire()
        assert await stage.by_state(project) == {"accepted": 7, "in_review": 1}
        (entry,) = await stage.queue(project)
        assert entry["confidence"]["reason"] == "leases_lost"
        # the log says that, and quotes no answer
        told = "\n".join(record.getMessage() + str(record.exc_text) for record in caplog.records)
        assert "could not be stored" in told
        assert "refused" in told
        assert "other thing" not in told


class TestAMistakeOfOurOwn:
    async def test_about_one_item_sends_it_to_people_and_labels_the_others(
        self, stage: Stage
    ) -> None:
        project = await make_work(stage, 5)
        (item, *_) = await stage.api.send_items(project, ["odd"])
        await stage.sql.rows("ALTER TABLE item_payloads DISABLE TRIGGER never_updated")
        await stage.sql.rows(
            "UPDATE item_payloads SET content = '{\"neither\": 1}' WHERE item_id = %(id)s",
            id=from_wire(Kind.ITEM, item),
        )
        await stage.sql.rows("ALTER TABLE item_payloads ENABLE TRIGGER never_updated")
        async with nothing_leaks():
            for _ in range(6):
                await worker(stage).drain(project)
                await stage.make_due(project)
        assert await stage.by_state(project) == {"accepted": 5, "in_review": 1}
        shown = await stage.item(item)
        assert shown["confidence"]["reason"] == "attempts_exhausted"
        assert "KeyError" in shown["last_error"]
        assert await burned(stage, project) == (5 + 6, 0)


class TestWhatLostItsWorker:
    async def test_comes_before_what_has_a_lower_rank(self, stage: Stage) -> None:
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        ids = await stage.api.send_items(project, [f"text {n}" for n in range(12)])
        lost = set(ids[:3])
        for item in ids:
            await stage.sql.rows(
                "UPDATE items SET losses = %(losses)s, rank = %(rank)s WHERE id = %(id)s",
                id=from_wire(Kind.ITEM, item),
                losses=int(item in lost),
                rank=0.9 if item in lost else 0.1,
            )
        # two at a time: the lost fill one turn and a half
        await worker(stage, calls_in_flight=2).start(project)
        asked = [call.item for call in stage.model.calls]
        assert set(asked[:3]) == {"text 0", "text 1", "text 2"}
        assert await stage.by_state(project) == {"accepted": 12}


class TestASuspect:
    async def make(self, stage: Stage, project: str, text: str) -> str:
        """An item that has lost its worker twice."""
        (item,) = await stage.api.send_items(project, [text])
        await stage.sql.rows(
            "UPDATE items SET losses = 2 WHERE id = %(id)s", id=from_wire(Kind.ITEM, item)
        )
        return item

    async def test_is_labelled_with_nothing_else_in_flight(self, stage: Stage) -> None:
        gate = Gate()
        stage.model.rules = {"suspect": [gate]}
        project = await make_work(stage)
        item = await self.make(stage, project, "a suspect")
        draining = worker(stage).start(project)
        await stage.model.wait_for_calls(1)
        await asyncio.sleep(0.1)
        assert [call.item for call in stage.model.calls] == ["a suspect"]
        gate.open()
        assert (await draining).settled == 21
        assert (await stage.item(item))["state"] == "accepted"

    async def test_is_not_asked_about_before_every_earlier_label_is_stored(
        self, stage: Stage
    ) -> None:
        gate = Gate()
        stage.model.rules = {"last": [gate]}
        project = await make_work(stage, 8)
        first = await self.make(stage, project, "suspect first")
        last = await self.make(stage, project, "suspect last")
        for item, rank in ((first, 0.0), (last, 0.9)):
            await stage.sql.rows(
                "UPDATE items SET rank = %(rank)s WHERE id = %(id)s",
                rank=rank,
                id=from_wire(Kind.ITEM, item),
            )
        draining = worker(stage).start(project)
        await stage.model.wait_for_calls(10)
        # the last suspect is being asked about: if that kills the worker, it dies alone
        assert stage.model.calls[-1].item == "suspect last"
        assert await stage.by_state(project) == {"accepted": 9, "labeling": 1}
        gate.open()
        assert (await draining).settled == 10

    async def test_that_kills_again_takes_nobody_with_it(self, stage: Stage) -> None:
        stage.model.rules = {"suspect": [FAULTS["hang"]]}
        project = await make_work(stage)
        item = await self.make(stage, project, "a suspect")
        deaf = worker(stage)
        draining = deaf.start(project)
        await stage.model.wait_for_calls(1)
        # as dead as a worker in this process can be
        await stage.lose_leases(project)
        await stage.labeling.sweep.expire()
        shown = await stage.item(item)
        assert (shown["state"], shown["label"]) == ("in_review", None)
        assert shown["confidence"]["reason"] == "leases_lost"
        assert await stage.events(item) == ["item.routed"]
        assert (await worker(stage).drain(project)).settled == 20
        assert await burned(stage, project) == (20, 3)
        deaf.stopping = True
        await draining

    async def test_is_not_kept_waiting_by_a_backlog(self, stage: Stage) -> None:
        stage.model.latency = 0.02
        project = await make_work(stage, 100)
        suspects = [await self.make(stage, project, f"suspect {n}") for n in range(3)]
        for item in suspects:
            assert (await worker(stage, slice_seconds=0.05).drain(project)).work_remains
            states = [(await stage.item(each))["state"] for each in suspects]
            assert states.count("accepted") == suspects.index(item) + 1
        await worker(stage).drain(project)
