"""Money: reserved before a claim, settled after, never more than the limit, whoever dies."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from app.domain.usage import Usage
from app.infra.ids import Kind, from_wire
from app.labeling import queries
from app.labeling.call import Answered, Job, ask
from app.labeling.claims import Claims
from app.labeling.load import LoadedProject, load_project
from app.labeling.plan import Plan, Settled
from app.labeling.reckoning import Reckoning
from app.labeling.record import Recorder
from app.settings import Settings
from tests.labeling.plays import Gate
from tests.labeling.support import Stage
from tests.support.labeling import LabelingSide
from tests.support.model_plays import FAULTS, Answer, Turn
from tests.support.model_server import ModelServer
from tests.support.problems import problem

# a token costs a hundredth of a cent, whichever
PRICES = {"input_per_million": 100.0, "output_per_million": 100.0, "currency": "EUR"}
TOKENS = 1000
# what an answer of so many tokens costs, in micros
PRICE = TOKENS * 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A good answer that used so many tokens; None: it does not tell."""

    tokens: int | None = TOKENS

    async def play(self, turn: Turn) -> web.StreamResponse:
        answer = Answer().completion(turn)
        answer["usage"] = {"prompt_tokens": self.tokens, "completion_tokens": 0}
        if self.tokens is None:
            del answer["usage"]
        return web.json_response(answer)


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        calls_in_flight=16,
        call_deadline_seconds=60.0,
        label_lease_seconds=90.0,
        retry_base_seconds=60.0,
    )


@pytest.fixture
async def other_worker(settings: Settings) -> AsyncIterator[LabelingSide]:
    async with LabelingSide.open(settings) as side:
        yield side


async def make_work(
    stage: Stage, count: int, *, limit: float | None, prices: Mapping[str, Any] | None = PRICES
) -> str:
    """A project of so many items, with a budget of so many EUR a month."""
    project = await stage.api.make_project(
        policy={"kind": "accept_all"}, labeler={"prices": prices}
    )
    if limit is not None:
        await put(stage, project, limit)
    await stage.api.send_items(project, [f"text {n:03}" for n in range(count)])
    return project


async def put(stage: Stage, project: str, limit: float | None) -> dict[str, Any]:
    answer = await stage.api.http.put(
        f"/v1/projects/{project}/budget", json={"monthly_limit": limit}
    )
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def budget(stage: Stage, project: str) -> dict[str, Any]:
    shown: dict[str, Any] = await stage.api.get(f"/v1/projects/{project}/budget")
    return shown


async def told(stage: Stage, project: str) -> list[dict[str, Any]]:
    """What the outbox told of exhausted budgets."""
    rows = await stage.sql.rows(
        "SELECT data FROM events WHERE project_id = %(id)s AND type = 'budget.exhausted' "
        "ORDER BY id",
        id=from_wire(Kind.PROJECT, project),
    )
    return [row["data"] for row in rows]


async def costs(stage: Stage, project: str) -> dict[str, int]:
    """The counters of cost, the month's under `month`."""
    rows = await stage.sql.rows(
        "SELECT name, sum(value)::bigint AS value FROM ("
        " SELECT name, value FROM counter_totals WHERE project_id = %(id)s"
        " UNION ALL SELECT name, delta FROM counter_deltas WHERE project_id = %(id)s) parts "
        "WHERE starts_with(name, 'cost.') GROUP BY name",
        id=from_wire(Kind.PROJECT, project),
    )
    found = {row["name"].removeprefix("cost."): row["value"] for row in rows}
    return {("month" if name[0] == "2" else name): value for name, value in found.items()}


async def attempts(stage: Stage, project: str) -> int:
    (row,) = await stage.sql.rows(
        "SELECT sum(attempts)::int AS n FROM items WHERE project_id = %(id)s",
        id=from_wire(Kind.PROJECT, project),
    )
    return int(row["n"])


async def due_projects(stage: Stage) -> set[uuid.UUID]:
    """Which projects a sweep would wake."""
    rows = await stage.labeling.parts.database.fetch_all(queries.DUE_PROJECTS, {})
    return {row["project_id"] for row in rows}


class TestTheCostOfAnAnswer:
    async def test_is_stored_and_counted(self, stage: Stage) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 3, limit=None)
        await stage.labeling.drain(project)
        rows = await stage.sql.rows(
            "SELECT cost_micros, calls FROM predictions WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        assert rows == [{"cost_micros": PRICE, "calls": 1}] * 3
        assert await costs(stage, project) == {
            "month": 3 * PRICE,
            "total": 3 * PRICE,
            "calls": 3,
            "labels": 3,
        }
        shown = await budget(stage, project)
        assert (shown["monthly_limit"], shown["currency"]) == (None, "EUR")
        assert shown["spent"] == 3 * PRICE / 1e6

    async def test_is_of_its_repair_as_well(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["off_schema"], Priced()]
        project = await make_work(stage, 1, limit=None)
        await stage.labeling.drain(project)
        (row,) = await stage.sql.rows(
            "SELECT cost_micros, calls FROM predictions WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        assert row["calls"] == 2
        assert row["cost_micros"] > PRICE
        assert (await costs(stage, project))["total"] == row["cost_micros"]

    async def test_that_brought_no_label_counts_too(self, stage: Stage) -> None:
        # the first try fails after the model has worked, and nobody says for how much
        stage.model.default = [FAULTS["500"], Priced()]
        project = await make_work(stage, 1, limit=None)
        await stage.labeling.drain(project)
        failed = await costs(stage, project)
        assert failed["total"] > 0
        assert "labels" not in failed
        await stage.make_due(project)
        await stage.labeling.drain(project)
        both = await costs(stage, project)
        assert both == {
            "month": failed["total"] + PRICE,
            "total": failed["total"] + PRICE,
            "calls": 2,
            "labels": 1,
        }

    async def test_that_the_server_does_not_tell_is_an_estimate(self, stage: Stage) -> None:
        stage.model.default = [Priced(tokens=None)]
        project = await make_work(stage, 1, limit=None)
        await stage.labeling.drain(project)
        assert (await costs(stage, project))["total"] > 0

    async def test_without_prices_is_not_known(self, stage: Stage) -> None:
        project = await make_work(stage, 2, limit=None, prices=None)
        await stage.labeling.drain(project)
        assert await costs(stage, project) == {}
        assert not await stage.sql.rows(
            "SELECT 1 FROM predictions WHERE project_id = %(id)s AND cost_micros IS NOT NULL",
            id=from_wire(Kind.PROJECT, project),
        )


class TestABudget:
    async def test_is_never_exceeded_by_workers_that_claim_at_once(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        # every call waits until all that can be paid for is under way
        gate = Gate(then=Priced())
        stage.model.default = [gate]
        project = await make_work(stage, 50, limit=None)
        estimate = await estimated(stage, project)
        await put(stage, project, 10.5 * estimate / 1e6)
        drains = [
            asyncio.create_task(side.drain(project)) for side in (stage.labeling, other_worker) * 3
        ]
        await stage.model.wait_for_calls(10)
        shown = await budget(stage, project)
        assert round(shown["reserved"] * 1e6) == 10 * estimate
        assert shown["reserved"] <= shown["monthly_limit"]
        assert await stage.by_state(project) == {"pending": 40, "labeling": 10}
        gate.open()
        await asyncio.gather(*drains)
        assert stage.model.count == 10
        assert await attempts(stage, project) == 10
        shown = await budget(stage, project)
        assert (shown["reserved"], shown["spent"]) == (0.0, 10 * PRICE / 1e6)

    async def test_exhausted_pauses_labelling_and_says_so_once(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 60, limit=2.0)
        for _ in range(3):
            await asyncio.gather(stage.labeling.drain(project), other_worker.drain(project))
        shown = await budget(stage, project)
        assert shown["exhausted"] is True
        assert shown["reserved"] == 0
        labelled = stage.model.count
        assert shown["spent"] == labelled * PRICE / 1e6
        # the first few were reckoned too low; later ones by what those used
        assert 15 <= labelled <= 20 + 4
        assert await stage.by_state(project) == {"accepted": labelled, "pending": 60 - labelled}
        assert await attempts(stage, project) == labelled
        assert await told(stage, project) == [
            {"project_id": project, "month": shown["month"], "limit_micros": 2_000_000}
        ]
        # nobody wakes it in vain
        assert from_wire(Kind.PROJECT, project) not in await due_projects(stage)

    async def test_raised_resumes_labelling_and_may_be_exhausted_again(self, stage: Stage) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 60, limit=0.5)
        await stage.labeling.drain(project)
        await stage.labeling.drain(project)
        assert (await budget(stage, project))["exhausted"]
        for limit in (1.0, 2.0):
            assert not (await put(stage, project, limit))["exhausted"]
            assert from_wire(Kind.PROJECT, project) in await due_projects(stage)
            await stage.labeling.drain(project)
            await stage.labeling.drain(project)
        assert [each["limit_micros"] for each in await told(stage, project)] == [
            500_000,
            1_000_000,
            2_000_000,
        ]
        # set back and forth, it is no news
        await put(stage, project, 1.0)
        await stage.labeling.drain(project)
        assert (await budget(stage, project))["exhausted"]
        assert len(await told(stage, project)) == 3
        # and without a limit all is labelled
        await put(stage, project, None)
        await stage.labeling.drain(project)
        assert await stage.by_state(project) == {"accepted": 60}

    async def test_of_a_new_month_resumes_labelling(self, stage: Stage) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 20, limit=0.5)
        await stage.labeling.drain(project)
        await stage.labeling.drain(project)
        before = stage.model.count
        await a_month_later(stage, project)
        assert from_wire(Kind.PROJECT, project) in await due_projects(stage)
        shown = await budget(stage, project)
        assert (shown["spent"], shown["exhausted"]) == (0.0, False)
        await stage.labeling.drain(project)
        await stage.labeling.drain(project)
        assert stage.model.count > before
        assert len(await told(stage, project)) == 2

    async def test_set_to_what_is_spent_already_is_exhausted_at_once_and_once(
        self, stage: Stage
    ) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 3, limit=None)
        await stage.labeling.drain(project)
        spent = 3 * PRICE
        assert not (await put(stage, project, (spent + 1) / 1e6))["exhausted"]
        assert await told(stage, project) == []
        for limit in (spent, spent - 1):
            assert (await put(stage, project, limit / 1e6))["exhausted"]
            assert (await told(stage, project))[-1]["limit_micros"] == limit
        assert from_wire(Kind.PROJECT, project) not in await due_projects(stage)
        # neither by whoever claims next, nor said again
        await stage.api.send_items(project, ["one more"])
        await stage.labeling.drain(project)
        await put(stage, project, (spent - 1) / 1e6)
        assert len(await told(stage, project)) == 2
        assert stage.model.count == 3
        assert not (await put(stage, project, None))["exhausted"]
        await stage.labeling.drain(project)
        assert await stage.by_state(project) == {"accepted": 4}

    async def test_of_nothing_labels_nothing(self, stage: Stage) -> None:
        project = await make_work(stage, 5, limit=0.0)
        await stage.labeling.drain(project)
        assert stage.model.count == 0
        assert (await budget(stage, project))["exhausted"]

    async def test_set_while_labelling_goes_on_holds_from_the_next_claim(
        self, stage: Stage
    ) -> None:
        gate = Gate(then=Priced())
        stage.model.default = [gate]
        project = await make_work(stage, 50, limit=None)
        draining = asyncio.create_task(stage.labeling.drain(project))
        await stage.model.wait_for_calls(16)
        await put(stage, project, 0.1)
        gate.open()
        await draining
        # what was asked comes on top; nothing more was
        assert stage.model.count == 16
        await stage.labeling.drain(project)
        assert stage.model.count == 16
        shown = await budget(stage, project)
        assert (shown["spent"], shown["exhausted"]) == (16 * PRICE / 1e6, True)

    async def test_with_another_labeler_is_looked_at_anew(self, stage: Stage) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 20, limit=0.5)
        await stage.labeling.drain(project)
        await stage.labeling.drain(project)
        assert (await budget(stage, project))["exhausted"]
        await stage.sql.rows("ALTER TABLE labelers DISABLE TRIGGER USER")
        await stage.sql.rows(
            "UPDATE labelers SET prices = NULL WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        await stage.sql.rows("ALTER TABLE labelers ENABLE TRIGGER USER")
        await stage.sql.rows(
            "UPDATE budgets SET exhausted_labeler_id = NULL WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        assert not (await budget(stage, project))["exhausted"]
        assert from_wire(Kind.PROJECT, project) in await due_projects(stage)


async def a_month_later(stage: Stage, project: str) -> None:
    """Puts what a project has spent into the month before."""
    project_id = from_wire(Kind.PROJECT, project)
    for statement in (
        "UPDATE spendings SET month = '2020-01' WHERE project_id = %(id)s",
        (
            "UPDATE counter_deltas SET name = 'cost.2020-01' "
            "WHERE project_id = %(id)s AND starts_with(name, 'cost.2')"
        ),
        "UPDATE budgets SET exhausted_month = '2020-01' WHERE project_id = %(id)s",
        "UPDATE budget_exhaustions SET month = '2020-01' WHERE project_id = %(id)s",
    ):
        await stage.sql.rows(statement, id=project_id)


async def loaded(stage: Stage, project: str) -> LoadedProject:
    parts = stage.labeling.parts
    found = await load_project(parts.database, parts.clients, from_wire(Kind.PROJECT, project))
    assert found is not None
    return found


async def reckoned(stage: Stage, project: str) -> Reckoning:
    """What a new process reckons with."""
    return stage.labeling.parts.drainer._reckoning(await loaded(stage, project))


async def estimated(stage: Stage, project: str) -> int:
    """What any item of `make_work` is going to cost, in micros, before anything is known."""
    return (await reckoned(stage, project)).micros({"text": "text 000"})


async def claim(stage: Stage, project: str, limit: int = 100) -> list[Job]:
    """Claims as a drain does, by hand."""
    known = await loaded(stage, project)
    claims = Claims(
        stage.labeling.parts.database,
        known.source,
        await reckoned(stage, project),
        has_budget=known.has_budget,
        lease_seconds=240.0,
    )
    return await claims.take(queries.CLAIM, limit)


async def record(stage: Stage, project: str, job: Job, usage: Usage) -> int:
    """Records an answer that used so much; how many items left labelling."""
    known = await loaded(stage, project)
    outcome = await ask(known.client, known.question, job, deadline_seconds=30)
    assert isinstance(outcome, Answered)
    settled = Settled(replace(outcome, usage=usage), job.attempts + 1)
    return await Recorder(stage.labeling.parts.database).write(
        known.source, Plan([settled], [], None), reckoning=await reckoned(stage, project)
    )


ONE_CALL = Usage(calls=1, prompt_tokens=TOKENS)


class TestADeadWorker:
    """As `kill -9` leaves it: leases that run out, and nobody who settles."""

    async def test_has_spent_what_it_had_reserved(self, stage: Stage) -> None:
        project = await make_work(stage, 10, limit=50.0)
        jobs = await claim(stage, project, 4)
        reserved = sum(job.reserved for job in jobs)
        assert len(jobs) == 4
        assert round((await budget(stage, project))["reserved"] * 1e6) == reserved
        await stage.lose_leases(project)
        await stage.labeling.sweep.expire()
        shown = await budget(stage, project)
        assert (shown["reserved"], round(shown["spent"] * 1e6)) == (0.0, reserved)
        assert await stage.by_state(project) == {"pending": 10}

    async def test_that_was_not_dead_tells_what_it_really_spent(self, stage: Stage) -> None:
        project = await make_work(stage, 1, limit=50.0)
        (job,) = await claim(stage, project)
        await stage.lose_leases(project)
        await stage.labeling.sweep.expire()
        assert job.reserved != PRICE
        assert (await costs(stage, project))["total"] == job.reserved
        # twice, since it can't know whether the first was stored
        for _ in range(2):
            assert await record(stage, project, job, ONE_CALL) == 0
            assert (await costs(stage, project)) == {"month": PRICE, "total": PRICE, "calls": 1} | {
                "labels": 1
            }
        (again,) = await claim(stage, project)
        assert await record(stage, project, again, ONE_CALL) == 1
        assert (await costs(stage, project))["total"] == 2 * PRICE
        shown = await budget(stage, project)
        assert (shown["reserved"], shown["spent"]) == (0.0, 2 * PRICE / 1e6)

    async def test_again_and_again_spends_no_more_than_the_budget(self, stage: Stage) -> None:
        project = await make_work(stage, 30, limit=None)
        estimate = await estimated(stage, project)
        await put(stage, project, 6.5 * estimate / 1e6)
        for _ in range(10):
            await claim(stage, project, 3)
            await stage.lose_leases(project)
            await stage.labeling.sweep.expire()
        shown = await budget(stage, project)
        assert shown["exhausted"]
        assert shown["spent"] <= shown["monthly_limit"]

    async def test_after_the_budget_was_removed_leaves_nothing_behind(self, stage: Stage) -> None:
        project = await make_work(stage, 5, limit=50.0)
        await claim(stage, project, 3)
        await put(stage, project, None)
        await stage.lose_leases(project)
        await stage.labeling.sweep.expire()
        shown = await put(stage, project, 50.0)
        assert shown["reserved"] == 0
        assert shown["spent"] > 0


class TestASettlement:
    async def test_written_twice_counts_once(self, stage: Stage) -> None:
        project = await make_work(stage, 1, limit=50.0)
        (job,) = await claim(stage, project)
        assert [await record(stage, project, job, ONE_CALL) for _ in range(3)] == [1, 0, 0]
        assert (await costs(stage, project))["total"] == PRICE
        assert (await budget(stage, project))["reserved"] == 0

    async def test_of_what_was_given_back_counts_what_was_under_way(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["hang"]]
        project = await make_work(stage, 3, limit=50.0)
        stopping = False
        leaving = asyncio.create_task(stage.labeling.drain(project, stopping=lambda: stopping))
        await stage.model.wait_for_calls(3)
        stopping = True
        await leaving
        counted = await costs(stage, project)
        assert counted["calls"] == 3
        shown = await budget(stage, project)
        assert (shown["reserved"], round(shown["spent"] * 1e6)) == (0.0, counted["total"])
        assert await stage.by_state(project) == {"pending": 3}
        assert await attempts(stage, project) == 0

    async def test_races_with_the_end_of_its_lease_and_one_of_them_counts(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        project = await make_work(stage, 40, limit=50.0)
        jobs = await claim(stage, project)
        while len(jobs) < 40:
            jobs += await claim(stage, project)
        await stage.lose_leases(project)
        await asyncio.gather(
            *(record(stage, project, job, ONE_CALL) for job in jobs),
            other_worker.sweep.expire(),
            stage.labeling.sweep.expire(),
        )
        counted = await costs(stage, project)
        # whoever was first, what was told is what counts
        assert counted == {
            "month": 40 * PRICE,
            "total": 40 * PRICE,
            "calls": 40,
            "labels": 40,
        }
        assert (await budget(stage, project))["reserved"] == 0


class TestADeletedProject:
    async def test_takes_its_money_with_it(self, stage: Stage) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 10, limit=50.0)
        await stage.labeling.drain(project)
        await stage.api.send_items(project, ["more", "and more"])
        await claim(stage, project)
        assert (await stage.api.http.delete(f"/v1/projects/{project}")).status_code == 204
        for table in ("budgets", "budget_exhaustions", "spendings", "counter_deltas"):
            assert not await stage.sql.rows(
                f"SELECT 1 FROM {table} WHERE project_id = %(id)s",
                id=from_wire(Kind.PROJECT, project),
            )


class TestSettingABudget:
    async def test_is_refused_where_the_labeler_has_no_prices(self, stage: Stage) -> None:
        project = await stage.api.make_project()
        path = f"/v1/projects/{project}/budget"
        answer = await stage.api.http.put(path, json={"monthly_limit": 5})
        problem(answer, 409, "no_prices")
        # that there is none may always be said
        assert (await put(stage, project, None))["monthly_limit"] is None

    @pytest.mark.parametrize(
        "body",
        ["{}", '{"monthly_limit": -1}', '{"monthly_limit": "5"}', '{"monthly_limit": NaN}',
         '{"monthly_limit": true}', '{"monthly_limit": 1, "daily_limit": 1}'],
    )  # fmt: skip
    async def test_is_refused_where_it_is_no_amount(self, stage: Stage, body: str) -> None:
        project = await make_work(stage, 0, limit=None)
        answer = await stage.api.http.put(
            f"/v1/projects/{project}/budget",
            content=body,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in {400, 422}, answer.text
        assert json.loads(answer.text)["status"] == answer.status_code

    async def test_keeps_its_digits(self, stage: Stage) -> None:
        project = await make_work(stage, 0, limit=None)
        for limit in (50.0, 0.1, 0.000001, 123456.789):
            assert (await put(stage, project, limit))["monthly_limit"] == limit
