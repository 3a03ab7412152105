"""429: the server asks for patience, and everybody has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import formatdate

import pytest
from aiohttp import web

from app.infra.ids import Kind, from_wire
from app.settings import Settings
from tests.labeling.support import Stage
from tests.support.labeling import LabelingSide
from tests.support.model_plays import FAULTS, Answer, Slow, Status, Turn
from tests.support.model_server import ModelServer

IN_FLIGHT = 4
LONG = 600.0


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        calls_in_flight=IN_FLIGHT,
        call_deadline_seconds=60.0,
        label_lease_seconds=90.0,
        retry_base_seconds=60,
    )


@pytest.fixture(scope="module")
async def other_worker(settings: Settings) -> AsyncIterator[LabelingSide]:
    """The labelling side of another worker: it shares nothing but the engines."""
    async with LabelingSide.open(settings) as side:
        yield side


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOfAnotherTime:
    """A rate limit of a server whose clock is years from ours; both its dates are by that."""

    now: float = 1_000_000_000.0

    async def play(self, _turn: Turn) -> web.StreamResponse:
        headers = {
            "Date": formatdate(self.now, usegmt=True),
            "Retry-After": formatdate(self.now + LONG, usegmt=True),
        }
        return web.Response(status=429, headers=headers)


async def make_work(stage: Stage, count: int = 20) -> str:
    project = await stage.api.make_project(policy={"kind": "accept_all"})
    await stage.api.send_items(project, [f"text {n}" for n in range(count)])
    return project


async def pause_left(stage: Stage) -> float | None:
    """Seconds for which the only endpoint rests, None if it does not."""
    found = await stage.sql.rows(
        "SELECT extract(epoch FROM paused_until - now())::float8 AS seconds FROM endpoint_pauses"
    )
    return float(found[0]["seconds"]) if found else None


async def attempts_burned(stage: Stage, project: str) -> int:
    (row,) = await stage.sql.rows(
        "SELECT sum(attempts) AS burned FROM items WHERE project_id = %(id)s",
        id=from_wire(Kind.PROJECT, project),
    )
    return int(row["burned"])


class TestRetryAfter:
    @pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
    async def test_is_kept_by_every_worker_and_burns_no_attempt(
        self, stage: Stage, other_worker: LabelingSide, as_date: object
    ) -> None:
        limit = Status(status=429, retry_after=LONG, retry_after_as_date=bool(as_date))
        stage.model.default = [limit, Answer()]
        project = await make_work(stage)

        await stage.labeling.drain(project)
        # what was in flight, and not one call more
        assert stage.model.count == IN_FLIGHT
        left = await pause_left(stage)
        assert left is not None
        assert LONG - 60 < left <= LONG + 2
        assert await stage.by_state(project) == {"pending": 20}
        assert await attempts_burned(stage, project) == 0

        await asyncio.gather(other_worker.drain(project), stage.labeling.drain(project))
        assert stage.model.count == IN_FLIGHT

        await stage.make_due(project)
        stage.model.default = [Answer()]
        result = await other_worker.drain(project)
        assert result.settled == 20
        assert await stage.by_state(project) == {"accepted": 20}
        # one attempt each: the refusals were none
        assert await attempts_burned(stage, project) == 20

    async def test_ends_with_all_workers_at_work_and_none_too_early(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.script = [FAULTS["429_seconds"]]
        project = await make_work(stage)
        await stage.labeling.drain(project)
        limited = [call for call in stage.model.calls if call.play is FAULTS["429_seconds"]]
        assert len(limited) == 1
        before = stage.model.count

        async with asyncio.timeout(60):
            while (await stage.by_state(project)).get("accepted", 0) < 20:
                await asyncio.gather(other_worker.drain(project), stage.labeling.drain(project))
                await asyncio.sleep(0.01)
        asked_at = limited[0].ended
        assert asked_at is not None
        later = stage.model.calls[before:]
        assert later
        assert all(call.began >= asked_at + 1.0 for call in later)

    async def test_of_another_project_on_the_same_endpoint_counts_too(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.default = [Status(status=429, retry_after=LONG)]
        limited, other = await make_work(stage), await make_work(stage)
        await stage.labeling.drain(limited)
        before = stage.model.count
        await other_worker.drain(other)
        assert stage.model.count == before
        await stage.make_due(other)

    async def test_of_another_model_does_not_count(self, stage: Stage) -> None:
        stage.model.default = [Status(status=429, retry_after=LONG)]
        limited = await make_work(stage)
        await stage.labeling.drain(limited)
        stage.model.default = [Answer()]
        free = await stage.api.make_project(labeler={"model": "another-model"})
        await stage.api.send_items(free, ["some text"])
        assert (await stage.labeling.drain(free)).settled == 1
        await stage.make_due(limited)

    async def test_that_is_longer_wins_over_one_that_is_shorter(self, stage: Stage) -> None:
        project = await make_work(stage, count=3)
        stage.model.rules = {
            "text 0": [Status(status=429, retry_after=LONG)],
            "text 1": [Slow(seconds=0.2, then=Status(status=429, retry_after=1))],
        }
        await stage.labeling.drain(project)
        left = await pause_left(stage)
        assert left is not None
        assert left > LONG - 60
        await stage.make_due(project)

    async def test_of_a_repair_is_obeyed_as_well(self, stage: Stage) -> None:
        stage.model.rules = {
            "text 0": [FAULTS["off_schema"], Status(status=429, retry_after=LONG), Answer()]
        }
        project = await make_work(stage, count=1)
        await stage.labeling.drain(project)
        assert await pause_left(stage) is not None
        assert await stage.by_state(project) == {"pending": 1}
        await stage.make_due(project)
        assert (await stage.labeling.drain(project)).settled == 1

    async def test_keeps_repairs_back_that_have_not_begun(self, stage: Stage) -> None:
        stage.model.rules = {
            "text 0": [Slow(seconds=0.3, then=FAULTS["off_schema"]), Answer()],
            "text 1": [Status(status=429, retry_after=LONG), Answer()],
        }
        project = await make_work(stage, count=2)
        await stage.labeling.drain(project)
        assert stage.model.calls_per_item == {"text 0": 1, "text 1": 1}
        assert await stage.by_state(project) == {"pending": 2}
        assert await attempts_burned(stage, project) == 0
        await stage.make_due(project)
        stage.model.rules = {}
        assert (await stage.labeling.drain(project)).settled == 2

    async def test_goes_by_the_endpoint_however_its_url_is_written(self, stage: Stage) -> None:
        stage.model.default = [Status(status=429, retry_after=LONG)]
        limited = await make_work(stage)
        await stage.labeling.drain(limited)
        before = stage.model.count
        for url in (stage.model.url, f"{stage.model.url}/"):
            same = await stage.api.make_project(labeler={"base_url": url})
            await stage.api.send_items(same, ["some text"])
            await stage.labeling.drain(same)
            assert stage.model.count == before
            await stage.api.http.delete(f"/v1/projects/{same}")
        await stage.make_due(limited)

    async def test_as_a_date_is_read_by_the_clock_of_the_server(self, stage: Stage) -> None:
        stage.model.default = [LimitOfAnotherTime()]
        project = await make_work(stage)
        await stage.labeling.drain(project)
        left = await pause_left(stage)
        assert left is not None
        assert LONG - 60 < left <= LONG + 2
        await stage.make_due(project)


class TestWithoutRetryAfter:
    @pytest.mark.parametrize("fault", ["429_bare", "429_quota"])
    async def test_the_endpoint_rests_for_about_the_first_delay(
        self, stage: Stage, other_worker: LabelingSide, fault: str
    ) -> None:
        stage.model.default = [FAULTS[fault]]
        project = await make_work(stage)
        await stage.labeling.drain(project)
        await other_worker.drain(project)
        assert stage.model.count == IN_FLIGHT
        left = await pause_left(stage)
        assert left is not None
        assert 0 < left <= 60
        assert await attempts_burned(stage, project) == 0
        assert await stage.by_state(project) == {"pending": 20}
        await stage.make_due(project)
