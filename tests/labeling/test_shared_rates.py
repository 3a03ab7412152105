"""Requests and tokens a minute, shared by all workers: with Redis and without it."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis.asyncio
from aiohttp import web
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.domain.rates import Cost, Granted, Levels, Limits, Settlement
from app.infra.ids import Kind, from_wire
from app.labeling.rates import SharedRates
from app.settings import Settings
from tests.labeling.support import Stage
from tests.support.labeling import LabelingSide
from tests.support.model_plays import Answer, Turn
from tests.support.model_server import ModelServer

NOTHING = Settlement()
_numbers = itertools.count()


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        calls_in_flight=20,
        call_deadline_seconds=60.0,
        label_lease_seconds=90.0,
    )


@pytest.fixture
async def other_worker(settings: Settings) -> AsyncIterator[LabelingSide]:
    async with LabelingSide.open(settings) as side:
        yield side


@asynccontextmanager
async def rates_by(
    stage: Stage, redis_url: str, clock: Callable[[], float] | None = None
) -> AsyncIterator[SharedRates]:
    """The rates of a worker of its own."""
    more = {} if clock is None else {"clock": clock}
    rates = SharedRates(stage.labeling.parts.database, redis_url, **more)
    try:
        yield rates
    finally:
        await rates.close()


@contextmanager
def frozen_redis() -> Iterator[str]:
    """A URL where somebody takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def endpoint() -> str:
    """A bucket that nobody has drawn from."""
    return f"test {next(_numbers)}"


async def make_work(stage: Stage, count: int, *, model: str, **limits: int) -> str:
    project = await stage.api.make_project(
        policy={"kind": "accept_all"}, labeler={"model": model, "limits": limits}
    )
    await stage.api.send_items(project, [f"text {n}" for n in range(count)])
    return project


async def level(stage: Stage, model: str, bucket: str) -> float:
    """What is stored of a bucket."""
    rates = stage.labeling.parts.rates
    found = await rates._redis.hget(f"secondlook:rate:default {model}", bucket)
    assert found is not None
    return float(found)


async def burned(stage: Stage, project: str) -> int:
    (row,) = await stage.sql.rows(
        "SELECT sum(attempts)::int AS n FROM items WHERE project_id = %(id)s",
        id=from_wire(Kind.PROJECT, project),
    )
    return int(row["n"])


class TestTheBucketInRedis:
    @examples(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        limits=st.builds(
            Limits,
            requests=st.none() | st.integers(1, 500),
            tokens=st.none() | st.integers(1, 100_000),
        ),
        turns=st.lists(
            st.tuples(
                st.lists(st.builds(Cost, st.integers(1, 3), st.integers(0, 9000)), max_size=8),
                st.builds(
                    Settlement,
                    st.integers(-5, 5),
                    st.integers(-5000, 5000),
                    st.none() | st.integers(0, 300),
                    st.none() | st.integers(0, 20_000),
                ),
            ),
            min_size=1,
            max_size=5,
        ),
    )
    async def test_does_what_the_domain_says(
        self, limits: Limits, turns: list[tuple[list[Cost], Settlement]], engines_url: str
    ) -> None:
        name = f"secondlook:rate:{(of := endpoint())}"
        connection = redis.asyncio.Redis.from_url(engines_url)
        rates = SharedRates(_NoDatabase(), engines_url)  # type: ignore[arg-type]
        levels = None
        try:
            for costs, settled in turns:
                granted = await rates.take(of, costs, limits=limits, settled=settled)
                at = float((await connection.hget(name, "at")) or 0)
                levels = levels or Levels.full(limits, now=at)
                levels, expected = levels.take(costs, limits=limits, settled=settled, now=at)
                assert granted.count == expected.count
                for one, other in (
                    (granted.wait, expected.wait),
                    (granted.requests, expected.requests),
                    (granted.tokens, expected.tokens),
                ):
                    assert one == (None if other is None else pytest.approx(other, abs=1e-4))
        finally:
            await rates.close()
            await connection.aclose()

    async def test_is_one_for_all_workers(self, stage: Stage, settings: Settings) -> None:
        of, limits = endpoint(), Limits(requests=1000)
        async with (
            rates_by(stage, settings.redis_url) as one,
            rates_by(stage, settings.redis_url) as other,
        ):
            granted = await asyncio.gather(
                *(
                    rates.take(of, [Cost(1, 0)] * 10, limits=limits, settled=NOTHING)
                    for rates in (one, other) * 10
                )
            )
        # a tenth of a minute's, and what flows in meanwhile
        taken = sum(each.count for each in granted)
        assert 100 <= taken < 110 + 20

    async def test_outlives_a_flush(self, stage: Stage, settings: Settings) -> None:
        of, limits = endpoint(), Limits(requests=60)
        async with rates_by(stage, settings.redis_url) as rates:
            await rates.take(of, [Cost(1, 0)], limits=limits, settled=NOTHING)
            connection = redis.asyncio.Redis.from_url(settings.redis_url)
            await connection.script_flush()
            await connection.aclose()
            granted = await rates.take(of, [Cost(1, 0)], limits=limits, settled=NOTHING)
            assert granted.count == 1


class _NoDatabase:
    """Where nobody counts who shares."""

    async def fetch_one(self, *_: Any) -> None:
        return None


@pytest.fixture(scope="module")
def engines_url(settings: Settings) -> str:
    return settings.redis_url


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class TestWithoutRedis:
    @pytest.mark.parametrize("absent", [True, False], ids=["absent", "frozen"])
    async def test_each_worker_keeps_to_its_share(self, stage: Stage, *, absent: bool) -> None:
        of, limits, clock = endpoint(), Limits(requests=400), Clock()
        with frozen_redis() as frozen:
            url = "redis://127.0.0.1:1/0" if absent else frozen
            async with (
                rates_by(stage, url, clock) as one,
                rates_by(stage, url, clock) as other,
            ):

                async def take(rates: SharedRates) -> Granted:
                    return await rates.take(of, [Cost(1, 0)] * 1000, limits=limits, settled=NOTHING)

                # both are known, and begin with nothing
                assert [(await take(rates)).count for rates in (one, other, one)] == [0, 0, 0]
                taken = 0
                for clock.now in range(6, 67, 6):
                    taken += (await take(one)).count + (await take(other)).count
        # in a minute of the clock
        assert 300 < taken <= 400

    async def test_a_worker_that_is_gone_leaves_its_share_to_the_others(self, stage: Stage) -> None:
        of, limits, clock = endpoint(), Limits(requests=600), Clock()
        url = "redis://127.0.0.1:1/0"
        async with rates_by(stage, url, clock) as one, rates_by(stage, url, clock) as other:
            for rates in (other, one):
                await rates.take(of, [], limits=limits, settled=NOTHING)
            await stage.sql.rows(
                "UPDATE rate_shares SET seen_at = now() - interval '1 minute' "
                "WHERE endpoint = %(of)s",
                of=of,
            )
            clock.now = 60.0
            granted = await one.take(of, [Cost(1, 0)] * 1000, limits=limits, settled=NOTHING)
        assert granted.count == 60

    async def test_the_loop_goes_on_while_redis_says_nothing(self, stage: Stage) -> None:
        with frozen_redis() as url:
            async with rates_by(stage, url) as rates:
                taking = asyncio.create_task(
                    rates.take(endpoint(), [Cost(1, 0)], limits=Limits(60), settled=NOTHING)
                )
                turns = 0
                while not taking.done():
                    await asyncio.sleep(0.001)
                    turns += 1
                assert (await taking).count == 0
        assert turns > 20

    async def test_items_are_labelled_all_the_same(self, stage: Stage, settings: Settings) -> None:
        alone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
        project = await make_work(stage, 5, model="redisless", requests_per_minute=6000)
        async with LabelingSide.open(alone) as side:
            await until_labelled(stage, project, 5, side)
        assert await burned(stage, project) == 5


async def until_labelled(stage: Stage, project: str, count: int, *sides: LabelingSide) -> None:
    async with asyncio.timeout(60):
        while (await stage.by_state(project)).get("accepted", 0) < count:
            await asyncio.gather(*(side.drain(project) for side in sides))
            await asyncio.sleep(0.02)


class TestALabelerWithLimits:
    async def test_is_asked_no_more_often_by_all_workers_together(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        project = await make_work(stage, 200, model="limited", requests_per_minute=300)
        drains = [side.drain(project) for side in (stage.labeling, other_worker)]
        for draining in drains:
            await draining
        # a tenth at once; then four and a half a second flow in while the drains look on
        first = stage.model.calls[0].began
        for n, call in enumerate(stage.model.calls):
            assert n <= 30 + (call.began - first + 0.1) * 300 / 60
        assert stage.model.count < 200
        assert await burned(stage, project) == stage.model.count
        left = 200 - stage.model.count
        assert await stage.by_state(project) == {"accepted": stage.model.count, "pending": left}

    async def test_finishes_in_its_time(self, stage: Stage, other_worker: LabelingSide) -> None:
        project = await make_work(stage, 120, model="quick", requests_per_minute=2400)
        await until_labelled(stage, project, 120, stage.labeling, other_worker)
        assert await burned(stage, project) == 120

    async def test_that_used_more_tokens_than_was_reckoned_waits_until_they_are_paid_back(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        stage.model.default = [Dear(tokens=1_000_000)]
        project = await make_work(stage, 40, model="dear", tokens_per_minute=60_000)
        await stage.labeling.drain(project)
        asked = stage.model.count
        # nothing was known of it: a few were tried
        assert asked == 4
        assert await level(stage, "dear", "tokens") < -3_900_000
        await other_worker.drain(project)
        assert stage.model.count == asked
        assert await stage.by_state(project) == {"accepted": 4, "pending": 36}

    async def test_without_limits_asks_no_redis(self, stage: Stage, settings: Settings) -> None:
        project = await stage.api.make_project(labeler={"model": "limitless"})
        await stage.api.send_items(project, ["some text"])
        assert (await stage.labeling.drain(project)).settled == 1
        connection = redis.asyncio.Redis.from_url(settings.redis_url)
        assert not await connection.exists("secondlook:rate:default limitless")
        await connection.aclose()
        assert not await stage.sql.rows(
            "SELECT 1 FROM rate_shares WHERE endpoint = 'default limitless'"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """A good answer whose headers say what is left of its server's limits."""

    headers: dict[str, str]

    async def play(self, turn: Turn) -> web.StreamResponse:
        response = await Answer().play(turn)
        response.headers.update(self.headers)
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Dear:
    """A good answer that used so many tokens."""

    tokens: int

    async def play(self, turn: Turn) -> web.StreamResponse:
        answer = Answer().completion(turn)
        answer["usage"] = {"prompt_tokens": self.tokens, "completion_tokens": 0}
        return web.json_response(answer)


class TestWhatAnAnswerSaysIsLeft:
    async def test_if_nothing_lets_the_endpoint_rest_for_all_and_burns_no_attempt(
        self, stage: Stage, other_worker: LabelingSide
    ) -> None:
        used_up = Telling(
            headers={
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "10m0s",
            }
        )
        stage.model.default = [used_up]
        project = await stage.api.make_project(
            policy={"kind": "accept_all"}, labeler={"model": "used up"}
        )
        await stage.api.send_items(project, [f"text {n}" for n in range(60)])
        await stage.labeling.drain(project)
        await other_worker.drain(project)
        # what was in flight when the first answer came is answered too
        answered = stage.model.count
        assert answered <= 40
        assert await stage.by_state(project) == {"accepted": answered, "pending": 60 - answered}
        assert await burned(stage, project) == answered
        (row,) = await stage.sql.rows(
            "SELECT extract(epoch FROM paused_until - now())::float8 AS left FROM endpoint_pauses "
            "WHERE endpoint = 'default used up'"
        )
        assert 500 < row["left"] <= 600
        stage.model.default = [Answer()]
        await stage.make_due(project)
        await stage.labeling.drain(project)
        assert await stage.by_state(project) == {"accepted": 60}

    async def test_lowers_the_level_that_all_share(self, stage: Stage) -> None:
        stage.model.default = [Telling(headers={"x-ratelimit-remaining-requests": "0"})]
        project = await make_work(stage, 1, model="little left", requests_per_minute=40)
        await stage.labeling.drain(project)
        # three of four were left, by what we took
        assert await level(stage, "little left", "requests") < 3
