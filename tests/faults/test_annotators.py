"""Thirty-two people on real connections: nothing twice, and in order of confidence."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from app.access.bootstrap import ensure_first_key
from app.infra.ids import Kind, from_wire
from app.reports.invariants import check_invariants
from app.settings import Settings
from tests.support import processes
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.model_plays import FAULTS
from tests.support.model_server import ModelServer

pytestmark = pytest.mark.timeout(300)

ITEMS = 2000
ANNOTATORS = 32


@dataclass(frozen=True)
class Claim:
    """A claim as its client saw it: when it was sent, when answered, and with what, in order."""

    sent: float
    answered: float
    items: list[uuid.UUID]


@pytest.fixture
def settings(
    new_database: Callable[[], AbstractContextManager[str]],
    make_settings: Callable[..., Settings],
) -> Iterator[Settings]:
    with ExitStack() as stack:
        url = stack.enter_context(new_database())
        model = stack.enter_context(ModelServer(record=False))
        # some are unknown: they come before all others
        model.rules = {"mute": [FAULTS["null_logprobs"]]}
        yield make_settings(
            database_url=url,
            openai_base_url=model.url,
            calls_in_flight=200,
            # a busy machine is no fault of the model
            call_deadline_seconds=60.0,
            label_lease_seconds=90.0,
        )


async def annotate(base_url: str, key: str, project: str, *, name: str, seed: int) -> list[Claim]:
    """Claims until nothing waits, one to five at a time."""
    rng = random.Random(seed)
    headers = {"Authorization": f"Bearer {key}", "Secondlook-Reviewer": name}
    claims: list[Claim] = []
    async with processes.client(base_url, headers) as http:
        while True:
            sent = time.monotonic()
            answer = await http.post(
                f"/v1/projects/{project}/claims", json={"limit": rng.randint(1, 5)}
            )
            answered = time.monotonic()
            assert answer.status_code == 200, answer.text
            held = [from_wire(Kind.ITEM, each["item"]["id"]) for each in answer.json()["data"]]
            if not held:
                return claims
            claims.append(Claim(sent, answered, held))


class TestThirtyTwoAnnotators:
    async def test_get_no_item_twice_and_the_least_certain_first(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        key = await ensure_first_key(settings.database_url)
        assert key is not None
        port = processes.free_port()
        base_url = f"http://127.0.0.1:{port}"
        server = processes.api_server(
            settings, tmp_path, port=port, SECONDLOOK_DATABASE_POOL_SIZE=str(ANNOTATORS)
        )
        try:
            server.start()
            await processes.until_answered(f"{base_url}/readyz")
            project, order = await make_queue(settings, base_url, key)
            claims = list(
                itertools.chain.from_iterable(
                    await asyncio.gather(
                        *(
                            annotate(base_url, key, project, name=f"annotator {n}", seed=n)
                            for n in range(ANNOTATORS)
                        )
                    )
                )
            )
        finally:
            server.kill()

        served = [item for claim in claims for item in claim.items]
        assert len(served) == len(set(served)) == ITEMS
        assert await check_invariants(settings.database_url) == []
        place = {item: position for position, item in enumerate(order)}
        for claim in claims:
            places = [place[item] for item in claim.items]
            assert places == sorted(places)
        assert overtaken(claims, place) == []
        # there was a contest: claims were under way at the same time, and they crossed
        assert max_at_once(claims) > ANNOTATORS // 4


async def make_queue(settings: Settings, base_url: str, key: str) -> tuple[str, list[uuid.UUID]]:
    """A project whose items all wait for people, and the order they should be served in."""
    async with (
        processes.client(base_url, {"Authorization": f"Bearer {key}"}) as http,
        LabelingSide.open(settings) as labeling,
    ):
        api = Api(base_url, key, http)
        project = await api.make_project(policy={"kind": "review_all"})
        texts = [f"mute {n}" if n % 40 == 0 else f"text {n}" for n in range(ITEMS)]
        await api.send_items(project, texts)
        assert (await labeling.drain(project)).settled == ITEMS
    with psycopg.connect(settings.database_url) as connection:
        waiting = connection.execute("SELECT score, item_id FROM review_queue").fetchall()
    return project, [item for _, item in sorted(waiting)]


def overtaken(claims: list[Claim], place: dict[uuid.UUID, int]) -> list[tuple[int, int]]:
    """Items that were left lying while one behind them was served.

    When a claim is answered with an item, every item before it must have been taken by a claim
    that had been sent by then: taken already, or in flight at the same time.
    """
    sent = [0.0] * len(place)
    for claim in claims:
        for item in claim.items:
            sent[place[item]] = claim.sent
    latest = list(itertools.accumulate(sent, max))
    wrong = []
    for claim in claims:
        last = max(place[item] for item in claim.items)
        if latest[last] > claim.answered:
            wrong.append((bisect.bisect_right(latest, claim.answered), last))
    return wrong


def max_at_once(claims: list[Claim]) -> int:
    moments = sorted(
        [(claim.sent, 1) for claim in claims] + [(claim.answered, -1) for claim in claims]
    )
    return max(itertools.accumulate(step for _, step in moments))


FOUR = a, b, c, d = [uuid.UUID(int=n) for n in range(4)]
PLACE = {item: position for position, item in enumerate(FOUR)}


class TestOvertaken:
    """The check itself, on made-up claims."""

    def test_finds_nothing_where_the_order_was_kept(self) -> None:
        claims = [Claim(0, 1, [a, b]), Claim(2, 3, [c]), Claim(4, 5, [d])]
        assert overtaken(claims, PLACE) == []

    def test_forgives_what_was_in_flight(self) -> None:
        claims = [Claim(0, 9, [a]), Claim(1, 2, [b, c]), Claim(3, 4, [d])]
        assert overtaken(claims, PLACE) == []

    def test_finds_what_was_left_lying(self) -> None:
        claims = [Claim(0, 1, [a]), Claim(2, 3, [c]), Claim(4, 5, [b, d])]
        assert overtaken(claims, PLACE) == [(1, 2)]
