"""Wake-ups on a real Valkey: coalesced, never in anybody's way, and no loss when they are lost."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.infra.embedded import EmbeddedEngines
from app.infra.jobs import DRAIN_TASK, LABELING_QUEUE, RedisWakeUps


class Broker:
    """A Valkey of the test's own, and what is in its queue."""

    def __init__(self, engines: EmbeddedEngines) -> None:
        self.valkey = engines.valkey
        self.url = engines.redis_url
        self.redis: redis.Redis = redis.Redis.from_url(self.url)

    def received(self) -> list[tuple[uuid.UUID, str]]:
        """Takes every message out: the project and the wake-up it names, oldest first."""
        found = []
        while raw := self.redis.rpop(LABELING_QUEUE):
            assert isinstance(raw, bytes)
            message = json.loads(raw)
            assert message["headers"]["task"] == DRAIN_TASK
            (project, wake_up), _, _ = self.body(message)
            found.append((uuid.UUID(project), wake_up))
        return found

    @staticmethod
    def body(message: dict[str, Any]) -> Any:
        return json.loads(base64.b64decode(message["body"]))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with EmbeddedEngines(tmp_path_factory.mktemp("broker"), postgres=False) as engines:
        made = Broker(engines)
        yield made
        made.redis.close()


@pytest.fixture
def wake_ups(broker: Broker) -> Iterator[RedisWakeUps]:
    broker.redis.flushall()
    made = RedisWakeUps(broker.url)
    yield made
    made.close()


def settle(wake_ups: RedisWakeUps) -> None:
    """Until everything asked for so far has been sent, or has failed."""
    wake_ups._publisher.submit(lambda: None).result()


class TestRequest:
    def test_of_many_is_one_message_a_project(self, broker: Broker, wake_ups: RedisWakeUps) -> None:
        projects = [uuid.uuid4(), uuid.uuid4()]
        for _ in range(100):
            for project in projects:
                wake_ups.request(project)
        settle(wake_ups)
        assert [project for project, _ in broker.received()] == projects
        assert wake_ups.healthy

    def test_after_the_last_arrived_is_a_new_message(
        self, broker: Broker, wake_ups: RedisWakeUps
    ) -> None:
        project = uuid.uuid4()
        wake_ups.request(project)
        settle(wake_ups)
        ((_, first),) = broker.received()
        assert wake_ups.arrived(project, first)
        wake_ups.request(project)
        settle(wake_ups)
        ((_, second),) = broker.received()
        assert second != first

    def test_whose_message_was_lost_is_made_up_for_soon(
        self, broker: Broker, wake_ups: RedisWakeUps
    ) -> None:
        project = uuid.uuid4()
        wake_ups.request(project)
        settle(wake_ups)
        broker.received()  # by a worker that dies with it
        flag = f"secondlook:wake:{project}"
        left = broker.redis.ttl(flag)
        assert isinstance(left, int)
        assert 0 < left <= 5
        broker.redis.delete(flag)  # as when that time is over
        wake_ups.request(project)
        settle(wake_ups)
        assert len(broker.received()) == 1

    def test_after_everything_was_flushed_is_sent_again(
        self, broker: Broker, wake_ups: RedisWakeUps
    ) -> None:
        project = uuid.uuid4()
        wake_ups.request(project)
        settle(wake_ups)
        broker.redis.flushall()
        wake_ups.request(project)
        settle(wake_ups)
        assert len(broker.received()) == 1

    def test_that_can_set_its_flag_and_not_send_takes_the_flag_down(
        self, broker: Broker, wake_ups: RedisWakeUps
    ) -> None:
        project = uuid.uuid4()
        broker.redis.set(LABELING_QUEUE, "not a list")
        wake_ups.request(project)
        settle(wake_ups)
        assert not wake_ups.healthy
        assert not broker.redis.exists(f"secondlook:wake:{project}")
        broker.redis.delete(LABELING_QUEUE)
        wake_ups.request(project)
        settle(wake_ups)
        assert len(broker.received()) == 1
        assert wake_ups.healthy


class TestArrived:
    def test_leaves_the_project_to_a_newer_wake_up(
        self, broker: Broker, wake_ups: RedisWakeUps
    ) -> None:
        project = uuid.uuid4()
        for _ in range(3):
            wake_ups.request(project)
            settle(wake_ups)
            # the queue is slow: the flag falls before its message is received
            newest = broker.redis.getdel(f"secondlook:wake:{project}")
        assert isinstance(newest, bytes)
        broker.redis.set(f"secondlook:wake:{project}", newest)
        answers = [wake_ups.arrived(project, wake_up) for _, wake_up in broker.received()]
        assert answers == [False, False, True]

    def test_looks_where_no_newer_one_is_known(
        self, broker: Broker, wake_ups: RedisWakeUps
    ) -> None:
        project = uuid.uuid4()
        wake_ups.request(project)
        settle(wake_ups)
        ((_, wake_up),) = broker.received()
        assert wake_ups.arrived(project, wake_up)
        # delivered twice
        assert wake_ups.arrived(project, wake_up)
        broker.redis.flushall()
        assert wake_ups.arrived(project, wake_up)


class TestWithoutABroker:
    def test_everything_goes_on(self, tmp_path: Path) -> None:
        wake_ups = RedisWakeUps(f"unix://{tmp_path}/nobody.socket")
        project = uuid.uuid4()
        wake_ups.request(project)
        settle(wake_ups)
        assert not wake_ups.healthy
        assert wake_ups.arrived(project, "any")
        wake_ups.close()
        # too late, and no error
        wake_ups.request(project)

    def test_killed_and_started_it_is_used_again(
        self, broker: Broker, wake_ups: RedisWakeUps
    ) -> None:
        project = uuid.uuid4()
        wake_ups.request(project)
        settle(wake_ups)
        broker.valkey.kill()
        wake_ups.request(project)
        settle(wake_ups)
        assert not wake_ups.healthy
        broker.valkey.start()
        wake_ups.request(project)
        settle(wake_ups)
        assert wake_ups.healthy
        assert len(broker.received()) == 1

    def test_frozen_it_holds_nobody_up(self, broker: Broker, wake_ups: RedisWakeUps) -> None:
        first, *others = [uuid.uuid4() for _ in range(50)]
        wake_ups.request(first)
        settle(wake_ups)
        broker.valkey.freeze()
        try:
            for project in [first, *others]:
                wake_ups.request(project)
            # all were taken while not even the first can have been sent
            assert set(others) <= wake_ups._queued
            assert wake_ups.arrived(first, "any")
        finally:
            wake_ups._closing = True
            broker.valkey.thaw()


class TestClose:
    def test_sends_what_was_asked_for(self, broker: Broker) -> None:
        broker.redis.flushall()
        wake_ups = RedisWakeUps(broker.url)
        projects = [uuid.uuid4() for _ in range(20)]
        for project in projects:
            wake_ups.request(project)
        wake_ups.close()
        assert [project for project, _ in broker.received()] == projects

    def test_with_a_frozen_broker_does_not_wait_for_all_that_was_asked(
        self, broker: Broker
    ) -> None:
        broker.redis.flushall()
        wake_ups = RedisWakeUps(broker.url)
        broker.valkey.freeze()
        try:
            for _ in range(1000):
                wake_ups.request(uuid.uuid4())
            # a thousand timeouts would outlast any test
            wake_ups.close()
        finally:
            broker.valkey.thaw()
        assert len(broker.received()) < 1000
