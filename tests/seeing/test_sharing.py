"""Processes that share a directory are told as one, whatever becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.infra.metrics_directory import VARIABLE, clean_directory
from app.settings import Settings
from tests.seeing.support import labels, samples
from tests.support.processes import PATIENCE, ROOT, environment, free_port, program

pytestmark = pytest.mark.timeout(600)

COUNT = """
import sys
from app.infra import metrics
metrics.call_begun()
metrics.call_ended("answered", 0.2)
metrics.call_begun()
metrics.tokens_used(30, 4)
print("counted", flush=True)
sys.stdin.read()
"""
TELL = """
import sys
from app.infra.metrics_exposition import ProcessMetrics, exposition
sys.stdout.buffer.write(exposition(ProcessMetrics()))
"""
IN_FLIGHT = "secondlook_llm_requests_in_flight"


class Siblings:
    """Processes that count, in one directory."""

    def __init__(self, directory: Path) -> None:
        self._env = {**os.environ, VARIABLE: str(directory)}
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", COUNT],
            env=self._env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"counted\n"
        return process

    def told(self) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        done = subprocess.run(
            [sys.executable, "-c", TELL], env=self._env, cwd=ROOT, check=True, capture_output=True
        )
        return samples(done.stdout.decode())


@pytest.fixture
def siblings(tmp_path: Path) -> Iterator[Siblings]:
    made = Siblings(clean_directory(tmp_path / "metrics"))
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


class TestSharing:
    def test_sums_what_all_count_and_what_they_hold(self, siblings: Siblings) -> None:
        siblings.start()
        siblings.start()
        told = siblings.told()
        assert told["secondlook_llm_tokens_total"][labels(direction="input")] == 60
        assert told["secondlook_llm_request_seconds_count"][labels(outcome="answered")] == 2
        assert told[IN_FLIGHT] == {labels(): 2}

    def test_keeps_what_a_killed_process_counted_and_drops_what_it_held(
        self, siblings: Siblings
    ) -> None:
        siblings.start()
        killed = siblings.start()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        told = siblings.told()
        assert told["secondlook_llm_tokens_total"][labels(direction="input")] == 60
        assert told[IN_FLIGHT] == {labels(): 1}

    def test_survives_a_process_that_was_killed_as_it_began(
        self, siblings: Siblings, tmp_path: Path
    ) -> None:
        siblings.start()
        (tmp_path / "metrics" / "counter_999999.db").touch()
        assert siblings.told()[IN_FLIGHT] == {labels(): 1}

    def test_begins_empty(self, siblings: Siblings, tmp_path: Path) -> None:
        siblings.start()
        left = tmp_path / "metrics"
        assert list(left.iterdir())
        assert list(clean_directory(left).iterdir()) == []


class TestSeveralProcessesOfTheApi:
    async def test_tell_the_same_whichever_is_asked(self, tmp_path: Path) -> None:
        nowhere = Settings(
            database_url=f"postgresql://nobody@/nothing?host={tmp_path}",
            redis_url=f"unix://{tmp_path}/nobody",
        )
        port, asked = free_port(), 20
        shared = clean_directory(tmp_path / "metrics")
        serving = program(
            *("-m", "uvicorn", "app.main:create_app", "--factory", "--workers", "2"),
            *("--timeout-worker-healthcheck", "120", "--no-access-log", "--port", str(port)),
            env=environment(nowhere, **{VARIABLE: str(shared)}),
            log=tmp_path / "api.log",
        )
        with serving as api:
            api.start()
            async with asyncio.timeout(3 * PATIENCE):
                while api.said().count("Application startup complete") < 2:  # noqa: ASYNC110  # polled
                    await asyncio.sleep(0.05)
            for _ in range(asked):
                # a connection each, so that both are asked
                assert await status(port, "/version") == 200
            key = labels(method="GET", route="/version", status="200")
            for _ in range(4):
                async with httpx2.AsyncClient(timeout=60, verify=False) as http:
                    told = samples((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
                assert told["secondlook_http_request_seconds_count"][key] == asked
                assert told["secondlook_database_up"] == {labels(): 0}
        writers = {path.stem.rpartition("_")[2] for path in shared.glob("histogram_*.db")}
        assert len(writers) >= 2


async def status(port: int, path: str) -> int:
    async with httpx2.AsyncClient(timeout=60, verify=False) as http:
        return (await http.get(f"http://127.0.0.1:{port}{path}")).status_code
