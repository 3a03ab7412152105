"""A service to measure: real engines with fsync on, processes of its own, filled by SQL."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from app.access.bootstrap import ensure_first_key
from app.infra import migrate
from app.infra.embedded import EmbeddedEngines
from app.infra.ids import Kind, from_wire

ROOT = Path(__file__).resolve().parents[1]
LABELS = [f"label {n}" for n in range(13)]

# Items that wait in the queue, with everything a claim and a verdict touch. Scores are spread, so
# that the order is not the order of insertion.
_FILL = """
WITH made AS (
    SELECT gen_random_uuid() AS id, random() AS u FROM generate_series(1, %(count)s)
), labelled AS (
    INSERT INTO items (id, project_id, state, rank, coin, audit_probability, train_probability,
                       label, confidence, confidence_source, route, route_reason, policy_id,
                       prediction_id, labeled_at)
    SELECT id, %(project)s, 'in_review', u, 'none', 0.1, 0.025, 'label 1', u, 'logprobs',
           'review', 'below_threshold', %(policy)s, id, now()
    FROM made
), payloads AS (
    INSERT INTO item_payloads (item_id, project_id, content, digest)
    SELECT id, %(project)s, jsonb_build_object('text', repeat('some words of text ', 25)), '\\x00'
    FROM made
), predicted AS (
    INSERT INTO predictions (id, project_id, item_id, labeler_id, label_schema_id, label,
                             confidence, confidence_source, score, alternatives, repaired,
                             latency_ms)
    SELECT id, %(project)s, id, %(labeler)s, %(schema)s, 'label 1', u, 'logprobs',
           ln((u + 1e-9) / (1 - u + 1e-9)), '[["label 1", 0.6], ["label 2", 0.4]]', false, 200
    FROM made
), routed AS (
    INSERT INTO events (id, project_id, type, data)
    SELECT id, %(project)s, 'item.routed', jsonb_build_object('item_id', id) FROM made
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    VALUES (%(project)s, 'items.in_review', %(count)s)
)
INSERT INTO review_queue (item_id, slot, project_id, round, score)
SELECT id, 1, %(project)s, 1, ln((u + 1e-9) / (1 - u + 1e-9)) FROM made
"""


@dataclass(frozen=True)
class Measured:
    """A running service.

    Attributes:
        base_url: of the API.
        key: an admin key that may name reviewers.
        database_url: its database.
        environ: of its processes.
        directory: on the disk that is measured.
    """

    base_url: str
    key: str
    database_url: str
    environ: Mapping[str, str]
    directory: Path

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

    def fill_queue(self, project: str, count: int) -> None:
        """Puts labelled items into the queue and lets the statistics settle."""
        wanted: uuid.UUID = from_wire(Kind.PROJECT, project)
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT label_schema_id, labeler_id, policy_id FROM projects WHERE id = %s",
                (wanted,),
            ).fetchone()
            assert row is not None
            names = ("schema", "labeler", "policy")
            parameters = {"project": wanted, "count": count, **dict(zip(names, row, strict=True))}
            connection.execute(_FILL, parameters)
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")


@contextmanager
def measured_service(
    directory: Path, *, model_url: str = "http://127.0.0.1:9"
) -> Iterator[Measured]:
    """One API process on embedded engines, for as long as the block lasts."""
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
            yield Measured(base_url, key, engines.database_url, environ, directory)
        finally:
            api.terminate()
            api.wait()


def _wait_ready(base_url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{base_url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the API did not become ready within a minute")
