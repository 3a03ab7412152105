"""A service to measure: real engines with fsync on, processes of its own, a meter on each."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.access.bootstrap import ensure_first_key
from app.infra import migrate
from app.infra.embedded import EmbeddedEngines
from app.infra.ids import Kind, from_wire
from benchmarks.fill import LABELS, filling
from benchmarks.measure import Block, Meter

ROOT = Path(__file__).resolve().parents[1]
_LONGEST_SECONDS = 300


@dataclass(frozen=True)
class Measured:
    """A running service.

    Attributes:
        base_url: of the API.
        key: an admin key that may name reviewers.
        database_url: its database.
        environ: of its processes.
        meter: watches the machine, the API and PostgreSQL.
    """

    base_url: str
    key: str
    database_url: str
    environ: Mapping[str, str]
    meter: Meter

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request that must succeed; its JSON."""
        request = urllib.request.Request(
            self.base_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def make_project(self) -> str:
        """A project in which people review everything."""
        made = self.call(
            "POST",
            "/v1/projects",
            {
                "name": "benchmark",
                "label_schema": {"kind": "single_choice", "labels": LABELS},
                "policy": {"kind": "review_all"},
            },
        )
        return str(made["id"])

    def project_id(self, project: str) -> uuid.UUID:
        """A project's id as the database has it."""
        return from_wire(Kind.PROJECT, project)

    def fill_queue(self, project: str, count: int) -> None:
        """Puts labelled items into the queue and lets the statistics settle."""
        with filling(self.database_url, self.project_id(project)) as filler:
            filler.wait(count)
            filler.settle()

    def run(self, *commands: Sequence[str]) -> list[dict[str, float]]:
        """Runs modules of the benchmark side by side; the JSON object each one prints."""
        programs = [
            subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.environ,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]
        answers = []
        try:
            for program, command in zip(programs, commands, strict=True):
                printed, _ = program.communicate(timeout=_LONGEST_SECONDS)
                if program.returncode:
                    raise RuntimeError(f"{command[0]} ended with {program.returncode}")
                answers.append(json.loads(printed.splitlines()[-1]))
        finally:
            for program in programs:
                program.kill()
                program.wait()
        return answers


def joint_rate(answers: Sequence[dict[str, float]]) -> float:
    """Things a second of programs that ran side by side, first start to last end."""
    took = max(each["ended"] for each in answers) - min(each["began"] for each in answers)
    return sum(each["count"] for each in answers) / took


@contextmanager
def measured_service(
    directory: Path, *, model_url: str, tell: Callable[[Block], None]
) -> Iterator[Measured]:
    """One API process on embedded engines, for as long as the block lasts."""
    meter = Meter(directory, tell)
    with EmbeddedEngines(directory / "engines") as engines:
        migrate.upgrade(engines.database_url)
        key = asyncio.run(ensure_first_key(engines.database_url))
        assert key is not None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        environ = {
            **os.environ,
            "DATABASE_URL": engines.database_url,
            "REDIS_URL": engines.redis_url,
            "OPENAI_BASE_URL": model_url,
            "OPENAI_API_KEY": "benchmark",
            "SECONDLOOK_MODEL": "scripted-test-model",
            "SECONDLOOK_LOG_LEVEL": "WARNING",
        }
        command = ["uvicorn", "app.main:create_app", "--factory", "--port", str(port)]
        api = subprocess.Popen(
            [sys.executable, "-m", *command, "--no-access-log", "--log-level", "warning"],
            env=environ,
            cwd=ROOT,
        )
        try:
            base_url = f"http://127.0.0.1:{port}"
            _wait_ready(base_url)
            assert engines.postgres.pid is not None
            meter.watch("api", api.pid)
            meter.watch("postgres", engines.postgres.pid)
            yield Measured(base_url, key, engines.database_url, environ, meter)
        finally:
            api.terminate()
            api.wait()


@contextmanager
def model_process() -> Iterator[tuple[str, int]]:
    """The scripted model server, answering after 200 ms: its URL and its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.model_server", "--latency", "0.2"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_ready(base_url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{base_url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the API did not become ready within a minute")
