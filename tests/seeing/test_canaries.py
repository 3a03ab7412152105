"""Whatever happens, nothing secret and nothing of an item is seen from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.seeing.life import Memory
from tests.seeing.support import CANARIES, Watched, found_in
from tests.support import processes

pytestmark = pytest.mark.timeout(600)


class TestCanaries:
    async def test_are_where_they_belong(self, watched: Watched, memory: Memory) -> None:
        """Else nothing is proved by not finding them anywhere else."""
        asked = json.dumps([[dict(call.headers), call.body] for call in watched.model.calls])
        sent = {"model key", "text", "instructions", "crash"}
        assert found_in(asked, CANARIES.values()) == {CANARIES[name] for name in sent}
        key = watched.client.admin_key
        shown = json.dumps([await watched.client.get(f"/v1/items/{item}") for item in memory.items])
        stored = {"text", "metadata", "external id", "webhook secret"}
        assert found_in(shown, watched.secrets) == {CANARIES[name] for name in stored}
        assert found_in(f"Bearer {key}", watched.secrets) == {key}

    def test_the_life_had_everything_in_it(self, watched: Watched, memory: Memory) -> None:
        assert memory.statuses == {
            "fields": 422,
            "no json": 400,
            "too large": 413,
            "query": 422,
            "unknown query": 422,
            "conflict": 409,
            "key": 401,
            "path": 404,
            "method": 405,
            "crash": 500,
            "refused by the database": 500,
            "database away": 503,
        }
        log = watched.log()
        for said in ("unhandled error", "could not be stored", "the database is away", "no_poison"):
            assert said in log

    @pytest.mark.usefixtures("memory")
    def test_no_log_line_has_one(self, watched: Watched) -> None:
        guilty = {
            secret: line[:2000]
            for line in watched.log().splitlines()
            for secret in found_in(line, watched.secrets)
        }
        assert guilty == {}

    async def test_no_log_line_has_the_password_of_a_broker_that_is_away(
        self, watched: Watched, tmp_path: Path
    ) -> None:
        secret = "canary-of-the-broker"
        url = f"redis://:{secret}@127.0.0.1:{processes.free_port()}/0"
        settings = watched.settings.model_copy(update={"redis_url": url})
        lonely = processes.worker(settings, tmp_path, more={"SECONDLOOK_LOG_LEVEL": "DEBUG"})
        try:
            lonely.start()
            await lonely.until_it_says("Cannot connect to")
            assert "127.0.0.1" in lonely.said()
            assert found_in(lonely.said(), [secret]) == set()
        finally:
            lonely.kill()

    @pytest.mark.usefixtures("memory")
    async def test_no_metric_has_one(self, watched: Watched) -> None:
        for process in watched.ports:
            exposition = await watched.exposition(process)
            assert len(exposition) > 1000
            assert found_in(exposition, watched.secrets) == set()

    def test_no_problem_document_has_one(self, watched: Watched, memory: Memory) -> None:
        assert len(watched.problems) >= len(memory.statuses)
        # the place of a problem is the path as it was asked for
        named = [text for text in watched.problems if f"/v1/{CANARIES['query']}" not in text]
        assert len(named) == len(watched.problems) - 1
        assert found_in("\n".join(named), watched.secrets) == set()

    @pytest.mark.usefixtures("memory")
    def test_no_span_has_one(self, watched: Watched) -> None:
        sent = b"".join(watched.spans.bodies).decode(errors="replace")
        assert "chat scripted-test-model" in sent
        # a path is part of a span as it was asked for
        assert found_in(sent, watched.secrets) <= {CANARIES["query"]}
