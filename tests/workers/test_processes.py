"""The worker and the sweeper as real processes: stopped, killed, left alone by the broker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.infra.embedded import EmbeddedEngines
from app.infra.ids import Kind, from_wire
from app.infra.jobs import LABELING_QUEUE
from app.settings import Settings
from tests.faults.plays import Deadly
from tests.labeling.plays import Gate
from tests.labeling.support import Stage
from tests.support import processes
from tests.support.model_plays import FAULTS, Answer
from tests.support.model_server import ModelServer
from tests.support.processes import Program

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngines]:
    """A Valkey of these tests' own: others leave wake-ups in theirs."""
    with EmbeddedEngines(tmp_path_factory.mktemp("broker"), postgres=False) as engines:
        yield engines


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    broker: EmbeddedEngines,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    return make_settings(
        database_url=database_url,
        redis_url=broker.redis_url,
        openai_base_url=running_model_server.url,
        calls_in_flight=8,
        call_deadline_seconds=60.0,
        label_lease_seconds=120.0,
    )


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Program]:
    """A worker of one process that is not started yet."""
    made = processes.worker(settings, tmp_path)
    yield made
    made.kill()


@pytest.fixture
def queue(broker: EmbeddedEngines) -> Iterator[redis.Redis]:
    """The broker, empty."""
    with redis.Redis.from_url(broker.redis_url) as client:
        client.flushall()
        yield client


async def make_work(stage: Stage, count: int, **project: Any) -> str:
    made = await stage.api.make_project(**({"policy": {"kind": "accept_all"}} | project))
    await stage.api.send_items(made, [f"text {n}" for n in range(count)])
    return made


async def until_state(
    stage: Stage, project: str, *, sweeping: bool = False, **expected: int
) -> None:
    """Until a project's items are in exactly these states, perhaps with a sweeper at work."""
    deadline = time.monotonic() + processes.PATIENCE
    while (found := await stage.by_state(project)) != expected and time.monotonic() < deadline:
        if sweeping:
            await stage.labeling.sweep.once(stopping=lambda: True)
        await asyncio.sleep(0.05)
    assert found == expected


async def leased(stage: Stage, project: str) -> int:
    return (await stage.by_state(project)).get("labeling", 0)


async def losses(stage: Stage, project: str) -> int:
    (row,) = await stage.sql.rows(
        "SELECT sum(losses)::int AS n FROM items WHERE project_id = %(id)s",
        id=from_wire(Kind.PROJECT, project),
    )
    return int(row["n"])


@pytest.mark.usefixtures("queue")
class TestAWorker:
    async def test_labels_what_it_is_woken_for(self, stage: Stage, worker: Program) -> None:
        worker.start()
        await worker.until_it_says(" ready.")
        project = await make_work(stage, 50)
        await until_state(stage, project, accepted=50)
        assert Counter(stage.model.calls_per_item.values()) == {1: 50}
        # what is sent while it works is not forgotten either
        await stage.api.send_items(project, ["more"])
        await until_state(stage, project, accepted=51)

    async def test_finds_the_wake_ups_that_came_before_it(
        self, stage: Stage, worker: Program
    ) -> None:
        project = await make_work(stage, 5)
        worker.start()
        await until_state(stage, project, accepted=5)

    async def test_that_is_stopped_ends_soon_leases_nothing_and_wakes_its_successor(
        self, stage: Stage, worker: Program, queue: redis.Redis
    ) -> None:
        stage.model.default = [FAULTS["hang"]]
        worker.start()
        await worker.until_it_says(" ready.")
        project = await make_work(stage, 30)
        await stage.model.wait_for_calls(8)
        # a call takes up to its deadline of a minute: it does not wait for that
        worker.ask_to_stop()
        assert await worker.ended() == 0
        assert await leased(stage, project) == 0
        assert await losses(stage, project) == 0
        assert queue.llen(LABELING_QUEUE) > 0

        # the message that woke it is gone, so this one works by that of its predecessor
        stage.model.default = [Answer()]
        worker.start()
        await until_state(stage, project, accepted=30)

    async def test_whose_child_dies_in_a_call_leaves_what_it_held_to_others(
        self, stage: Stage, worker: Program
    ) -> None:
        stage.model.default = [FAULTS["hang"]]
        worker.start()
        await worker.until_it_says(" ready.")
        project = await make_work(stage, 8)
        await stage.model.wait_for_calls(8)
        (child,) = worker.children()
        os.kill(child, signal.SIGKILL)
        stage.model.default = [Answer()]
        await stage.lose_leases(project)
        await stage.labeling.sweep.once(stopping=lambda: False)
        await until_state(stage, project, accepted=8)
        assert await losses(stage, project) == 8
        assert worker.alive

    async def test_loses_its_database_and_finds_it_again(
        self, stage: Stage, worker: Program
    ) -> None:
        worker.start()
        await worker.until_it_says(" ready.")
        project = await make_work(stage, 5)
        await until_state(stage, project, accepted=5)
        await stage.sql.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'secondlook-worker'"
        )
        await stage.api.send_items(project, ["more"])
        # the wake-up may have met the broken connection: then the sweep sends another
        await until_state(stage, project, sweeping=True, accepted=6)


class TestAPoisonItem:
    @pytest.fixture
    def worker(self, settings: Settings, tmp_path: Path) -> Iterator[Program]:
        """One whose leases are short: they run out by themselves here."""
        short = {"call_deadline_seconds": 1.0, "label_lease_seconds": 2.0}
        made = processes.worker(settings.model_copy(update=short), tmp_path)
        yield made
        made.kill()

    @pytest.mark.usefixtures("queue")
    async def test_goes_to_people_after_three_losses_while_its_neighbours_flow(
        self, stage: Stage, worker: Program
    ) -> None:
        worker.start()
        await worker.until_it_says(" ready.")
        stage.model.rules = {"poison": [Deadly(worker)]}
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        texts = [f"text {n}" for n in range(40)]
        ids = await stage.api.send_items(project, [*texts[:20], "poison", *texts[20:]])

        await until_state(stage, project, sweeping=True, accepted=40, in_review=1)
        poison = await stage.item(ids[20])
        assert poison["confidence"]["reason"] == "leases_lost"
        assert stage.model.calls_per_item["poison"] == 3
        assert worker.alive


@pytest.fixture
async def sweepers(
    database_url: str, settings: Settings, tmp_path: Path
) -> AsyncIterator[Callable[[str], Program]]:
    """Sweepers of their own broker-less service: nobody wakes anybody."""
    assert database_url == settings.database_url
    alone = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/nobody.socket"})
    made: list[Program] = []

    def make(name: str) -> Program:
        made.append(processes.sweeper(alone, tmp_path, name=name))
        return made[-1]

    yield make
    for each in made:
        each.kill()


async def active_sweeper(stage: Stage) -> int | None:
    """The backend that holds the sweepers' lock in this database; never more than one."""
    rows = await stage.sql.rows(
        "SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() "
        "AND l.database = a.datid AND a.application_name = 'secondlook-sweeper-lock'"
    )
    assert len(rows) <= 1
    return rows[0]["pid"] if rows else None


async def until_active(stage: Stage, *, other_than: int | None = None) -> int:
    async with asyncio.timeout(processes.PATIENCE):
        while (found := await active_sweeper(stage)) in {None, other_than}:  # noqa: ASYNC110  # polled
            await asyncio.sleep(0.05)
    assert found is not None
    return found


async def make_overdue(stage: Stage, project: str) -> None:
    await stage.sql.rows(
        "UPDATE items SET next_attempt_at = now() - interval '1 hour' "
        "WHERE project_id = %(id)s AND state = 'pending'",
        id=from_wire(Kind.PROJECT, project),
    )


class TestASweeper:
    async def test_labels_what_is_overdue_while_the_broker_is_away(
        self, stage: Stage, sweepers: Callable[[str], Program]
    ) -> None:
        project = await make_work(stage, 20)
        await make_overdue(stage, project)
        sweeper = sweepers("alone")
        sweeper.start()
        await until_state(stage, project, accepted=20)
        assert Counter(stage.model.calls_per_item.values()) == {1: 20}

    async def test_does_everything_else_that_falls_due(
        self, stage: Stage, sweepers: Callable[[str], Program]
    ) -> None:
        project = await make_work(stage, 3, policy={"kind": "review_all"})
        await stage.labeling.drain(project)
        (assignment,) = await stage.api.claim(project, 1)
        await stage.sql.expire(assignment["id"])
        sweepers("alone").start()
        project_id = from_wire(Kind.PROJECT, project)
        async with asyncio.timeout(processes.PATIENCE):
            while len(await stage.queue(project)) < 3:  # noqa: ASYNC110  # another process gets there
                await asyncio.sleep(0.1)
            while await stage.sql.rows(  # noqa: ASYNC110  # another process gets there
                "SELECT 1 FROM counter_deltas WHERE project_id = %(id)s", id=project_id
            ):
                await asyncio.sleep(0.1)
        assert await stage.by_state(project) == {"in_review": 3}

    async def test_is_one_of_many_and_another_takes_over_when_it_is_killed(
        self, stage: Stage, sweepers: Callable[[str], Program]
    ) -> None:
        first, second = sweepers("first"), sweepers("second")
        first.start()
        before = await until_active(stage)
        second.start()
        project = await make_work(stage, 5)
        await make_overdue(stage, project)
        await until_state(stage, project, accepted=5)
        assert await active_sweeper(stage) == before

        first.kill()
        await until_active(stage, other_than=before)
        await stage.api.send_items(project, ["more"])
        await make_overdue(stage, project)
        await until_state(stage, project, accepted=6)
        assert second.alive

    async def test_that_loses_its_lock_does_not_go_on_beside_another(
        self, stage: Stage, sweepers: Callable[[str], Program]
    ) -> None:
        first, second = sweepers("first"), sweepers("second")
        first.start()
        lock = await until_active(stage)
        second.start()
        for _ in range(3):
            await stage.sql.rows("SELECT pg_terminate_backend(%(pid)s)", pid=lock)
            lock = await until_active(stage, other_than=lock)
        # both live and one is active
        assert first.alive
        assert second.alive
        project = await make_work(stage, 5)
        await make_overdue(stage, project)
        await until_state(stage, project, accepted=5)

    async def test_that_is_stopped_while_it_helps_leases_nothing(
        self, stage: Stage, sweepers: Callable[[str], Program]
    ) -> None:
        gate = Gate()
        stage.model.default = [gate]
        project = await make_work(stage, 20)
        await make_overdue(stage, project)
        sweeper = sweepers("alone")
        sweeper.start()
        await stage.model.wait_for_calls(8)
        sweeper.ask_to_stop()
        assert await sweeper.ended() == 0
        assert await leased(stage, project) == 0
        assert await losses(stage, project) == 0
        gate.open()
        stage.model.default = [Answer()]
        await stage.labeling.drain(project)
