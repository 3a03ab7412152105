"""One effect an item: leases are fenced, policies are current, and twice is as good as once."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from app.domain.backoff import FailureClass
from app.domain.kinds.base import Part, Score
from app.domain.routing import decide_route, policy_from_json
from app.domain.unknown import UnknownReason
from app.infra.ids import Kind, from_wire, new_id, to_wire
from app.labeling import queries
from app.labeling.call import Answered, Failed, Job, Outcome, ask
from app.labeling.load import LoadedProject, load_project
from app.labeling.plan import Plan, Returned, Settled
from app.labeling.record import Recorder
from app.settings import Settings
from tests.labeling.plays import Gate
from tests.labeling.support import Stage
from tests.support.labeling import LabelingSide
from tests.support.model_plays import Answer
from tests.support.model_server import ModelServer

SPAM = {"spam": 0.9, "ham": 0.05, "other thing": 0.05}
HAM = {"spam": 0.1, "ham": 0.8, "other thing": 0.1}


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    """Time enough for a call to be held up as long as a test likes."""
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        call_deadline_seconds=120.0,
        label_lease_seconds=240.0,
    )


@pytest.fixture(scope="module")
async def other_worker(settings: Settings) -> AsyncIterator[LabelingSide]:
    async with LabelingSide.open(settings) as side:
        yield side


@pytest.fixture(scope="module")
async def slow_worker(settings: Settings) -> AsyncIterator[LabelingSide]:
    """One with a single call in flight: while that hangs it claims nothing more."""
    single = settings.model_copy(update={"calls_in_flight": 1})
    async with LabelingSide.open(single) as side:
        yield side


@pytest.fixture
async def other_connection(settings: Settings) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A transaction of somebody else's, open until the test commits it."""
    connection = await psycopg.AsyncConnection.connect(settings.database_url)
    async with connection:
        yield connection


async def claim(stage: Stage, project: str, limit: int = 100) -> list[Job]:
    """Claims as a drain does, by hand."""
    token = uuid.uuid4()
    rows = await stage.labeling.parts.database.fetch_all(
        queries.CLAIM,
        {
            "project_id": from_wire(Kind.PROJECT, project),
            "endpoint": "default scripted-test-model",
            "token": token,
            "lease_seconds": 240.0,
            "limit": limit,
            "reserving": False,
        },
    )
    return [Job(row["id"], token, row["attempts"], row["content"]) for row in rows]


async def load(stage: Stage, project: str) -> LoadedProject:
    """What a drain knows of a project."""
    parts = stage.labeling.parts
    loaded = await load_project(parts.database, parts.clients, from_wire(Kind.PROJECT, project))
    assert loaded is not None
    return loaded


async def answer(stage: Stage, project: str, job: Job) -> Answered:
    """What the model says of a claimed item."""
    loaded = await load(stage, project)
    outcome = await ask(loaded.client, loaded.question, job, deadline_seconds=30)
    assert isinstance(outcome, Answered)
    return outcome


async def record(stage: Stage, project: str, *outcomes: Outcome) -> int:
    """Records as a drain does; how many items left labelling."""
    settled = [Settled(outcome, outcome.job.attempts + 1) for outcome in outcomes]
    return await write(stage, project, Plan(settled, [], None))


async def write(stage: Stage, project: str, plan: Plan) -> int:
    loaded = await load(stage, project)
    return await Recorder(stage.labeling.parts.database).write(loaded.source, plan)


async def until_blocked(stage: Stage) -> None:
    """Until some transaction waits for a lock."""
    async with asyncio.timeout(30):
        while not await stage.sql.rows(  # noqa: ASYNC110  # another session gets there by itself
            "SELECT 1 FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


class TestAStaleWorker:
    async def test_whose_item_another_has_labelled_writes_nothing(
        self, stage: Stage, slow_worker: LabelingSide, other_worker: LabelingSide
    ) -> None:
        gate = Gate(then=Answer(probabilities=HAM))
        stage.model.default = [gate, Answer(probabilities=SPAM)]
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        (item,) = await stage.api.send_items(project, ["some text"])
        slow = asyncio.create_task(slow_worker.drain(project))
        await stage.model.wait_for_calls(1)

        await stage.lose_leases(project)
        await other_worker.sweep.expire()
        assert (await other_worker.drain(project)).settled == 1
        before = await stage.item(item)
        gate.open()
        assert (await slow).settled == 0

        assert await stage.item(item) == before
        assert before["label"] == "spam"
        assert (await stage.prediction(item))["label"] == "spam"
        assert await stage.events(item) == ["item.labeled", "item.routed"]
        assert await stage.by_state(project) == {"accepted": 1}

    async def test_whose_item_another_is_labelling_writes_nothing(
        self, stage: Stage, slow_worker: LabelingSide, other_worker: LabelingSide
    ) -> None:
        first, second = Gate(then=Answer(probabilities=HAM)), Gate(then=Answer(probabilities=SPAM))
        stage.model.default = [first, second]
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        (item,) = await stage.api.send_items(project, ["some text"])
        slow = asyncio.create_task(slow_worker.drain(project))
        await stage.model.wait_for_calls(1)
        await stage.lose_leases(project)
        await other_worker.sweep.expire()
        quick = asyncio.create_task(other_worker.drain(project))
        await stage.model.wait_for_calls(2)

        first.open()
        assert (await slow).settled == 0
        assert (await stage.item(item))["state"] == "labeling"
        second.open()
        assert (await quick).settled == 1
        assert (await stage.item(item))["label"] == "spam"

    async def test_can_neither_return_nor_give_back_nor_settle_what_it_lost(
        self, stage: Stage
    ) -> None:
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        (stale,) = await claim(stage, project)
        answered = await answer(stage, project, stale)
        await stage.lose_leases(project)
        await stage.labeling.sweep.expire()
        (job,) = await claim(stage, project)
        assert job.token != stale.token
        failed = Failed(
            stale, FailureClass.REJECTED, UnknownReason.REQUEST_REJECTED, "refused", None
        )
        recorder = Recorder(stage.labeling.parts.database)
        project_id = from_wire(Kind.PROJECT, project)

        assert await record(stage, project, answered) == 0
        assert await record(stage, project, failed) == 0
        await write(stage, project, Plan([], [Returned(stale, 5, 60.0, "late")], None))
        await recorder.give_back(project_id, [stale])

        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == ("labeling", 0)
        assert shown["last_error"] != "late"
        # a lost lease is no attempt and costs nobody the item
        assert await record(stage, project, await answer(stage, project, job)) == 1

    async def test_in_one_batch_with_its_successor_leaves_one_result(self, stage: Stage) -> None:
        stage.model.default = [Answer(probabilities=HAM), Answer(probabilities=SPAM)]
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        (stale,) = await claim(stage, project)
        first = await answer(stage, project, stale)
        await stage.lose_leases(project)
        await stage.labeling.sweep.expire()
        (job,) = await claim(stage, project)
        second = await answer(stage, project, job)
        assert await record(stage, project, first, second) == 1
        assert (await stage.prediction(item))["label"] == "spam"
        assert len(await stage.queue(project)) == 1


class TestAScoreWithParts:
    async def test_is_stored_with_them_and_with_its_further_figures(self, stage: Stage) -> None:
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        (item,) = await stage.api.send_items(project, ["some text"])
        (job,) = await claim(stage, project)
        given = await answer(stage, project, job)
        parts = [Part("spam", True, 0.9, 2.2), Part("ham", [1, {"a": None}], 0.6, 0.4)]
        score = Score.of_parts(parts, mean_logprob=-0.25)
        reading = replace(given.reading, score=score)
        assert await record(stage, project, replace(given, reading=reading)) == 1
        (row,) = await stage.sql.rows(
            "SELECT confidence, score, parts, figures, calls, cost_micros FROM predictions "
            "WHERE item_id = %(id)s",
            id=from_wire(Kind.ITEM, item),
        )
        assert row == {
            # the least certain part's
            "confidence": 0.6,
            "score": 0.4,
            "parts": [["spam", True, 0.9, 2.2], ["ham", [1, {"a": None}], 0.6, 0.4]],
            "figures": {"mean_logprob": -0.25},
            "calls": 1,
            "cost_micros": None,
        }

    async def test_without_any_is_stored_as_having_none(self, stage: Stage) -> None:
        _, item = await stage.label_one()
        (row,) = await stage.sql.rows(
            "SELECT parts, figures FROM predictions WHERE item_id = %(id)s",
            id=from_wire(Kind.ITEM, item),
        )
        assert row == {"parts": None, "figures": None}


class TestRecordingTwice:
    async def test_has_one_effect(self, stage: Stage) -> None:
        project = await stage.api.make_project(policy={"kind": "fixed_threshold", "threshold": 0.5})
        ids = await stage.api.send_items(project, [f"text {n}" for n in range(20)])
        jobs = await claim(stage, project)
        outcomes = [await answer(stage, project, job) for job in jobs]
        assert await record(stage, project, *outcomes) == 20
        after_one = await stage.by_state(project)

        assert await record(stage, project, *outcomes) == 0
        assert await stage.by_state(project) == after_one
        for item in ids:
            assert len(await stage.predictions(item)) == 1
            assert await stage.events(item) == ["item.labeled", "item.routed"]
        assert len(await stage.queue(project)) == after_one["in_review"]

    async def test_a_return_keeps_the_first_delay(self, stage: Stage) -> None:
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        (job,) = await claim(stage, project)
        await write(stage, project, Plan([], [Returned(job, 1, 3600.0, "failed")], None))
        before = await stage.item(item)
        await write(stage, project, Plan([], [Returned(job, 2, 1.0, "failed again")], None))
        assert await stage.item(item) == before
        assert await stage.by_state(project) == {"pending": 1}


class TestAPolicyChange:
    async def test_that_commits_while_results_wait_for_it_routes_them(
        self, stage: Stage, other_connection: psycopg.AsyncConnection[Any]
    ) -> None:
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        ids = await stage.api.send_items(project, ["one", "two"])
        outcomes = [await answer(stage, project, job) for job in await claim(stage, project)]
        project_id, version = from_wire(Kind.PROJECT, project), new_id()
        await other_connection.execute(
            "SELECT 1 FROM projects WHERE id = %s FOR NO KEY UPDATE", (project_id,)
        )
        await other_connection.execute(
            "INSERT INTO policies (id, project_id, version, document) VALUES (%s, %s, 2, %s)",
            (version, project_id, Jsonb({"kind": "review_all"})),
        )
        await other_connection.execute(
            "UPDATE projects SET policy_id = %s WHERE id = %s", (version, project_id)
        )
        await other_connection.execute(
            "INSERT INTO events (id, project_id, type, data) "
            "VALUES (%s, %s, 'policy.updated', '{}')",
            (new_id(), project_id),
        )
        recording = asyncio.create_task(record(stage, project, *outcomes))
        await until_blocked(stage)
        await other_connection.commit()

        assert await recording == 2
        for item in ids:
            shown = await stage.item(item)
            assert (shown["state"], shown["route_reason"]) == ("in_review", "review_all")
            assert shown["policy_id"] == to_wire(Kind.POLICY, version)

    async def test_that_comes_while_results_are_recorded_waits_for_them(
        self, stage: Stage, other_connection: psycopg.AsyncConnection[Any]
    ) -> None:
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        await other_connection.execute(
            queries.HOLD_PROJECT.encode(), {"project_id": from_wire(Kind.PROJECT, project)}
        )
        changing = asyncio.create_task(
            stage.api.http.post(f"/v1/projects/{project}/policies", json={"kind": "review_all"})
        )
        await until_blocked(stage)
        assert not changing.done()
        await other_connection.commit()
        assert (await changing).status_code == 201

    async def test_never_leaves_an_item_routed_by_a_policy_it_does_not_name(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.latency = 0.005
        project = await stage.api.make_project(policy={"kind": "review_all"})
        await stage.api.send_items(project, [f"text {n}" for n in range(300)])
        done = asyncio.Event()

        async def change() -> int:
            changes = 0
            while not done.is_set():
                kind = ("accept_all", "review_all")[changes % 2]
                answer = await stage.api.http.post(
                    f"/v1/projects/{project}/policies", json={"kind": kind}
                )
                assert answer.status_code == 201
                changes += 1
            return changes

        changing = asyncio.create_task(change())
        drains = await asyncio.gather(stage.labeling.drain(project), other_worker.drain(project))
        done.set()
        assert await changing > 1
        assert sum(result.settled for result in drains) == 300
        routed = await stage.sql.rows(
            "SELECT i.route, i.route_reason, i.confidence, p.document FROM items i "
            "JOIN policies p ON p.id = i.policy_id WHERE i.project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        assert len(routed) == 300
        for row in routed:
            decision = decide_route(policy_from_json(row["document"]), confidence=row["confidence"])
            assert (row["route"], row["route_reason"]) == (decision.route, decision.reason)


class TestDuplicateDelivery:
    async def test_of_every_wake_up_ten_times_labels_each_item_once(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.latency = 0.002
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        await stage.api.send_items(project, [f"text {n}" for n in range(400)])
        drains = [side.drain(project) for _ in range(5) for side in (stage.labeling, other_worker)]
        results = await asyncio.gather(*drains)
        assert sum(result.settled for result in results) == 400
        assert await stage.by_state(project) == {"accepted": 400}
        assert Counter(stage.model.calls_per_item.values()) == {1: 400}


class TestADeletedProject:
    async def leftovers(self, stage: Stage, project: str) -> dict[str, int]:
        found = await stage.sql.rows(
            "SELECT table_name AS name FROM information_schema.columns "
            "WHERE column_name = 'project_id' AND table_schema = 'public'"
        )
        assert len(found) > 10
        counts = {}
        for row in found:
            statement = f"SELECT count(*) AS n FROM {row['name']} WHERE project_id = %(id)s"
            (counted,) = await stage.sql.rows(statement, id=from_wire(Kind.PROJECT, project))
            if counted["n"]:
                counts[row["name"]] = counted["n"]
        return counts

    async def test_takes_what_is_being_labelled_with_it(self, stage: Stage) -> None:
        gate = Gate()
        stage.model.default = [gate]
        project = await stage.api.make_project()
        await stage.api.send_items(project, [f"text {n}" for n in range(10)])
        draining = asyncio.create_task(stage.labeling.drain(project))
        await stage.model.wait_for_calls(10)
        assert (await stage.api.http.delete(f"/v1/projects/{project}")).status_code == 204
        gate.open()
        assert (await draining).settled == 0
        assert await self.leftovers(stage, project) == {}
        assert (await stage.labeling.drain(project)).settled == 0

    async def test_waits_for_nobody_for_ever_and_nobody_for_it(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.latency = 0.002
        for n in range(6):
            project = await stage.api.make_project(
                policy={"kind": "fixed_threshold", "threshold": 0.6}
            )
            await stage.api.send_items(project, [f"text {n}" for n in range(150)])
            draining = asyncio.gather(
                stage.labeling.drain(project),
                other_worker.drain(project),
                other_worker.sweep.expire(),
            )
            stage.model.count = 0
            await stage.model.wait_for_calls(20 * n)
            deleted = await stage.api.http.delete(f"/v1/projects/{project}")
            assert deleted.status_code == 204
            await draining
            assert await self.leftovers(stage, project) == {}


class TestTheClock:
    @pytest.mark.parametrize("hours", [-1, 1])
    async def test_of_the_application_ends_no_lease_and_delays_nothing(
        self, stage: Stage, other_worker: LabelingSide, monkeypatch: pytest.MonkeyPatch, hours: int
    ) -> None:
        gate = Gate()
        stage.model.default = [gate]
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        draining = asyncio.create_task(stage.labeling.drain(project))
        await stage.model.wait_for_calls(1)
        right = time.time
        with monkeypatch.context() as patched:
            patched.setattr("time.time", lambda: right() + hours * 3600)
            await other_worker.sweep.expire()
            assert (await other_worker.drain(project)).settled == 0
            assert (await stage.item(item))["state"] == "labeling"
            gate.open()
            assert (await draining).settled == 1
        assert stage.model.count == 1
