"""An endpoint that fails for everybody is left alone, and what waits for it stays where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from app.infra.ids import Kind, from_wire
from app.reports.facts import ServiceFacts
from app.settings import Settings
from tests.labeling.plays import Gate
from tests.labeling.support import Stage
from tests.support.labeling import LabelingSide
from tests.support.model_plays import FAULTS, Answer, Play, Slow, Status, Turn
from tests.support.model_server import ModelServer

IN_FLIGHT = 8
FAILURES = 10
BACKLOG = 1000
OK = {"state": "ok", "until": None, "said": None}
WRONG_KEY = "the model server answered 401: Incorrect API key provided: ***"


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    """Delays so long that nothing is tried again unless the test moves its time."""
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        calls_in_flight=IN_FLIGHT,
        call_deadline_seconds=60.0,
        label_lease_seconds=90.0,
        retry_base_seconds=60.0,
        breaker_failures=FAILURES,
    )


@pytest.fixture
async def other_worker(settings: Settings) -> AsyncIterator[LabelingSide]:
    """Another process's side: what it knows of the endpoint it has from the database."""
    async with LabelingSide.open(settings) as side:
        yield side


@pytest.fixture(autouse=True)
async def mended(stage: Stage) -> AsyncIterator[None]:
    """No test finds the endpoint as an earlier one left it."""
    yield
    await stage.sql.rows("DELETE FROM endpoint_breakers")
    await stage.sql.rows("DELETE FROM endpoint_pauses")


@dataclass(frozen=True, slots=True)
class Refuses:
    """An error in the form of OpenAI's."""

    status: int
    message: str

    async def play(self, _turn: Turn) -> web.StreamResponse:
        return web.json_response({"error": {"message": self.message}}, status=self.status)


async def make_work(stage: Stage, count: int) -> str:
    project = await stage.api.make_project(policy={"kind": "accept_all"})
    await stage.api.send_items(project, [f"text {n}" for n in range(count)])
    return project


async def burned(stage: Stage, project: str) -> list[int]:
    """Attempts of the items that have any."""
    rows = await stage.sql.rows(
        "SELECT attempts FROM items WHERE project_id = %(id)s AND attempts > 0 ORDER BY 1",
        id=from_wire(Kind.PROJECT, project),
    )
    return [row["attempts"] for row in rows]


async def delay(stage: Stage) -> float | None:
    """For how long the only endpoint was left alone last; None where it is not broken."""
    found = await stage.sql.rows("SELECT delay FROM endpoint_breakers")
    return float(found[0]["delay"]) if found else None


async def end_rest(stage: Stage) -> None:
    """Moves the end of the rest to now, instead of waiting for it."""
    await stage.sql.rows("UPDATE endpoint_pauses SET paused_until = now()")


async def break_it(stage: Stage, project: str) -> None:
    """Lets calls fail until the endpoint is left alone."""
    await stage.labeling.drain(project)
    assert await delay(stage) == 5.0


class TestADeadEndpoint:
    async def test_keeps_its_backlog_with_no_attempt_burned_and_labels_all_when_it_is_back(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.default = [FAULTS["500"]]
        project = await make_work(stage, BACKLOG)
        await break_it(stage, project)
        # the first ten, and what was in flight beside them
        assert stage.model.count <= FAILURES + IN_FLIGHT
        assert await burned(stage, project) == [1] * FAILURES
        assert await stage.by_state(project) == {"pending": BACKLOG}

        # it rests for all workers, and then one call is made at a time, by one of them
        expected = stage.model.count
        for longer in (10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0):
            await asyncio.gather(stage.labeling.drain(project), other_worker.drain(project))
            assert stage.model.count == expected
            await end_rest(stage)
            await asyncio.gather(stage.labeling.drain(project), other_worker.drain(project))
            expected += 1
            assert stage.model.count == expected
            assert await delay(stage) == longer
        # each trial was of another item
        assert await burned(stage, project) == [1] * (FAILURES + 7)
        assert await stage.by_state(project) == {"pending": BACKLOG}

        stage.model.default = [Answer()]
        await stage.make_due(project)
        result = await stage.labeling.drain(project)
        assert result.settled == BACKLOG
        assert await stage.by_state(project) == {"accepted": BACKLOG}
        assert await delay(stage) is None
        # what failed comes with its attempt, all else with the one that labelled it
        assert await burned(stage, project) == [1] * (BACKLOG - 17) + [2] * 17

    @pytest.mark.parametrize("fault", ["401", "reset", "html", "503"])
    async def test_may_fail_in_any_way_that_is_no_items(self, stage: Stage, fault: str) -> None:
        stage.model.default = [FAULTS[fault]]
        project = await make_work(stage, 30)
        await break_it(stage, project)
        assert await burned(stage, project) == [1] * FAILURES

    async def test_may_be_absent(self, stage: Stage) -> None:
        project = await make_work(stage, 30)
        stage.model.refuse()
        await break_it(stage, project)
        assert await burned(stage, project) == [1] * FAILURES

    async def test_is_not_called_by_the_sweeper_before_its_time(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["500"]]
        project = await make_work(stage, 30)
        await break_it(stage, project)
        before = stage.model.count
        await stage.labeling.sweep.once(stopping=lambda: False)
        await stage.labeling.sweep.close()
        assert stage.model.count == before

    async def test_is_not_called_by_who_began_before_it_was_broken(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        gate = Gate()
        stage.model.rules = {"held": [gate]}
        stage.model.default = [FAULTS["500"]]
        held = await stage.api.make_project(policy={"kind": "accept_all"})
        await stage.api.send_items(held, ["held"])
        began = asyncio.create_task(stage.labeling.drain(held))
        await stage.model.wait_for_calls(1)
        await other_worker.drain(await make_work(stage, 30))
        assert await delay(stage) == 5.0
        await end_rest(stage)
        before = stage.model.count
        # it has room, and looks four times a second; but whoever calls now makes the trial
        await stage.api.send_items(held, ["one more"])
        await asyncio.sleep(1.0)
        assert stage.model.count == before
        gate.open()
        await began
        assert stage.model.count == before

    async def test_counts_failures_across_drains(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["500"]]
        for n in range(FAILURES):
            assert await delay(stage) is None
            project = await make_work(stage, 1)
            await stage.labeling.drain(project)
            assert stage.model.count == n + 1
        assert await delay(stage) == 5.0


class TestABrokenEndpointIsSeen:
    async def test_in_the_statistics_of_all_who_share_it_until_it_is_mended(
        self, stage: Stage
    ) -> None:
        async def endpoint(of: str) -> dict[str, Any]:
            shown: dict[str, Any] = (await stage.api.get(f"/v1/projects/{of}/stats"))["endpoint"]
            return shown

        async def left_alone() -> int:
            facts = await ServiceFacts(stage.labeling.parts.database).get()
            assert facts is not None
            return facts.endpoints_resting

        project, other = await make_work(stage, 30), await make_work(stage, 0)
        elsewhere = await stage.api.make_project(labeler={"model": "another"})
        assert await endpoint(project) == OK
        stage.model.default = [Refuses(401, "Incorrect API key provided: sk-live-0123.")]
        await break_it(stage, project)
        shown = await endpoint(project)
        assert (shown["state"], shown["said"]) == ("broken", WRONG_KEY)
        assert datetime.fromisoformat(shown["until"]) > datetime.now(UTC)
        assert await endpoint(other) == shown
        assert await endpoint(elsewhere) == OK
        page = await stage.api.get(f"/v1/projects/{project}/items", limit=100)
        errors = [item["last_error"] for item in page["data"] if item["attempts"]]
        assert errors == [WRONG_KEY] * FAILURES
        assert await left_alone() == 1
        # it waits for its trial
        await end_rest(stage)
        assert await endpoint(project) == {"state": "broken", "until": None, "said": WRONG_KEY}
        assert await left_alone() == 1
        stage.model.default = [Answer()]
        await stage.labeling.drain(project)
        assert await endpoint(project) == OK
        assert await left_alone() == 0

    async def test_in_the_log_once_when_it_opens_and_once_when_it_closes(
        self, stage: Stage, other_worker: LabelingSide, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage.model.default = [Refuses(401, "Incorrect API key provided: sk-live-0123.")]
        project = await make_work(stage, 60)
        # both find it broken, and trials fail
        await asyncio.gather(stage.labeling.drain(project), other_worker.drain(project))
        for _ in range(2):
            await end_rest(stage)
            await asyncio.gather(stage.labeling.drain(project), other_worker.drain(project))
        host = stage.model.url.removeprefix("http://").removesuffix("/v1")
        named = f"scripted-test-model at {host}"
        failing = f"{named} fails again and again (request_rejected); it is left alone"
        assert told(caplog, named) == [failing]
        stage.model.default = [Answer()]
        await end_rest(stage)
        await asyncio.gather(stage.labeling.drain(project), other_worker.drain(project))
        assert told(caplog, named) == [failing, f"{named} answers again; the calls go on"]

    async def test_that_asked_for_patience_is_told_with_its_words(self, stage: Stage) -> None:
        stage.model.default = [Status(status=429, retry_after=1000)]
        project = await make_work(stage, 30)
        await stage.labeling.drain(project)
        shown = (await stage.api.get(f"/v1/projects/{project}/stats"))["endpoint"]
        assert (shown["state"], shown["said"]) == (
            "resting",
            "the model server answered 429: scripted 429",
        )
        left = datetime.fromisoformat(shown["until"]) - datetime.now(UTC)
        assert 900 < left.total_seconds() < 1010

    async def test_without_what_it_quotes_of_an_item(self, stage: Stage) -> None:
        stage.model.default = [Refuses(500, "can't parse 'text 1 and all that follows it'")]
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        items = ["text 1 and all that follows it, which is nobody's business"] * 30
        await stage.api.send_items(project, items)
        await break_it(stage, project)
        shown = (await stage.api.get(f"/v1/projects/{project}/stats"))["endpoint"]
        assert shown["said"] == "the model server answered 500"

    async def test_of_labels_made_elsewhere_is_none(self, stage: Stage) -> None:
        project = await stage.api.make_project(labeler={"source": "external", "model": "theirs"})
        assert (await stage.api.get(f"/v1/projects/{project}/stats"))["endpoint"] is None


def told(caplog: pytest.LogCaptureFixture, about: str) -> list[str]:
    """Warnings that name an endpoint."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and about in record.getMessage()
    ]


class TestATrial:
    @pytest.mark.parametrize(
        "play",
        [
            # whatever it says of the item, the endpoint answers
            FAULTS["400"],
            FAULTS["off_schema"],
            FAULTS["refusal"],
            FAULTS["429_bare"],
        ],
        ids=["refused", "no label", "refusal", "rate limit"],
    )
    async def test_that_is_answered_in_any_way_ends_it(self, stage: Stage, play: Play) -> None:
        stage.model.default = [FAULTS["500"]]
        project = await make_work(stage, 30)
        await break_it(stage, project)
        stage.model.default = [play]
        await end_rest(stage)
        await stage.labeling.drain(project)
        assert await delay(stage) is None
        await stage.make_due(project)

    async def test_whose_worker_dies_is_made_by_another_later(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.default = [FAULTS["500"]]
        project = await make_work(stage, 30)
        await break_it(stage, project)
        before, gate = stage.model.count, Gate()
        stage.model.default = [gate]
        await end_rest(stage)
        dying = asyncio.create_task(stage.labeling.drain(project))
        await stage.model.wait_for_calls(before + 1)
        # as long as its call may last nobody else tries
        await other_worker.drain(project)
        assert stage.model.count == before + 1
        # then somebody does, whether it is dead or not
        stage.model.default = [Answer()]
        await stage.make_due(project)
        assert (await other_worker.drain(project)).settled == 29
        gate.open()
        await dying
        assert await stage.by_state(project) == {"accepted": 30}

    async def test_that_is_given_up_leaves_the_next_to_others(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.default = [FAULTS["500"]]
        project = await make_work(stage, 30)
        await break_it(stage, project)
        before, stopping = stage.model.count, False
        stage.model.default = [FAULTS["hang"], Answer()]
        await end_rest(stage)
        leaving = asyncio.create_task(stage.labeling.drain(project, stopping=lambda: stopping))
        await stage.model.wait_for_calls(before + 1)
        stopping = True
        assert (await leaving).work_remains
        assert await delay(stage) == 5.0
        stage.model.default = [Answer()]
        await stage.sql.rows("UPDATE items SET next_attempt_at = now() WHERE state = 'pending'")
        assert (await other_worker.drain(project)).settled == 30

    async def test_is_not_used_up_by_a_project_that_has_nothing_due(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.default = [FAULTS["500"]]
        project, empty = await make_work(stage, 30), await make_work(stage, 0)
        await break_it(stage, project)
        stage.model.default = [Answer()]
        await end_rest(stage)
        await other_worker.drain(empty)
        await stage.sql.rows("UPDATE items SET next_attempt_at = now() WHERE state = 'pending'")
        assert (await stage.labeling.drain(project)).settled == 30


class TestAnEndpointThatWorks:
    async def test_has_its_failing_items_tried_six_times_and_given_to_people(
        self, stage: Stage
    ) -> None:
        stage.model.rules = {"odd": [FAULTS["500"]]}
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        await stage.api.send_items(project, [f"odd {n}" for n in range(5)])
        for attempt in range(6):
            await stage.labeling.drain(project)
            assert await delay(stage) is None
            assert await burned(stage, project) == [attempt + 1] * 5
            await stage.make_due(project)
            # others succeed meanwhile
            assert (await stage.labeling.drain(await make_work(stage, 1))).settled == 1
        assert await stage.by_state(project) == {"in_review": 5}

    async def test_does_not_keep_items_for_ever_where_none_but_failing_ones_are_left(
        self, stage: Stage
    ) -> None:
        stage.model.default = [FAULTS["500"]]
        project = await make_work(stage, FAILURES + 2)
        for _ in range(6 * (FAILURES + 2)):
            if not (await stage.by_state(project)).get("pending"):
                break
            await stage.labeling.drain(project)
            await end_rest(stage)
            await stage.sql.rows("UPDATE items SET next_attempt_at = now() WHERE state = 'pending'")
        assert await stage.by_state(project) == {"in_review": FAILURES + 2}
        assert await burned(stage, project) == [6] * (FAILURES + 2)

    async def test_is_not_broken_by_late_failures_of_calls_that_others_outran(
        self, stage: Stage
    ) -> None:
        stage.model.rules = {"late": [Slow(seconds=0.3, then=FAULTS["500"])]}
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        await stage.api.send_items(project, [f"late {n}" for n in range(IN_FLIGHT)])
        await stage.labeling.drain(project)
        assert await delay(stage) is None
        assert await burned(stage, project) == [1] * IN_FLIGHT
