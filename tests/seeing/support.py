"""The service as real processes, watched in every way there is, with canaries in all of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from app.access.bootstrap import ensure_first_key
from app.infra import migrate
from app.infra.embedded import EmbeddedEngines
from app.settings import Settings
from tests.seeing.receiver import Collector, collecting
from tests.support import processes
from tests.support.api import Api
from tests.support.model_plays import Turn
from tests.support.model_server import ModelServer
from tests.support.processes import Program

# each in a place of its own; none of it may be seen from outside
CANARIES: Mapping[str, str] = {
    "model key": "sk-canary-of-the-model-server",
    "database password": "canary-of-the-database",
    "text": "canary-of-an-item",
    "metadata": "canary-of-metadata",
    "comment": "canary-of-a-comment",
    "external id": "canary-of-an-external-id",
    "reviewer": "canary-of-a-reviewer",
    "webhook secret": "whsec_canary",
    "query": "canary-of-a-query",
    "instructions": "canary-of-instructions",
    "crash": "canary-of-a-crash",
}


def found_in(haystack: str, secrets: Iterable[str]) -> set[str]:
    """Which secrets a text holds, in whatever case it spells them."""
    lowered = haystack.lower()
    return {secret for secret in secrets if secret.lower() in lowered}


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """A model server's page that quotes the prompt and the key it was sent."""

    status: int
    content_type: str

    async def play(self, turn: Turn) -> web.StreamResponse:
        said = json.dumps([dict(turn.http.headers), turn.call.body])
        return web.Response(
            text=f'{{"error": {said}' if "json" in self.content_type else f"<html>{said}</html>",
            status=self.status,
            content_type=self.content_type,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Watched:
    """Everything that runs, and what came out of it.

    Attributes:
        engines: PostgreSQL and Valkey, of this service alone.
        model: the scripted model server.
        api, worker, sweeper: the programs.
        client: a client of the API that keeps each problem document it gets.
        ports: of /metrics, by process.
        spans: the collector of traces.
        problems: every problem document that was answered.
    """

    engines: EmbeddedEngines
    settings: Settings
    model: ModelServer
    api: Program
    worker: Program
    sweeper: Program
    client: Api
    ports: Mapping[str, int]
    spans: Collector
    logs: Path
    problems: list[str] = field(default_factory=list)

    @property
    def secrets(self) -> set[str]:
        return {*CANARIES.values(), self.client.admin_key}

    def log(self) -> str:
        """All that all programs have written, PostgreSQL included."""
        files = [*self.logs.glob("*.log"), *(self.logs / "engines").rglob("*.log")]
        return "".join(path.read_text(errors="replace") for path in files)

    def lines(self, process: str) -> list[dict[str, Any]]:
        """The JSON lines of one of our processes."""
        text = (self.logs / f"{process}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    async def exposition(self, process: str) -> str:
        """What /metrics of a process says."""
        url = f"http://127.0.0.1:{self.ports[process]}/metrics"
        async with httpx2.AsyncClient(timeout=30, verify=False) as http:
            answer = await http.get(url)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return answer.text

    async def metrics(self, process: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        """Samples of a process by name, and by their labels."""
        return samples(await self.exposition(process))


def samples(exposition: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Samples by name, and by their labels."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def labels(**values: str) -> frozenset[tuple[str, str]]:
    """The key of a sample."""
    return frozenset(values.items())


@asynccontextmanager
async def watched_service(directory: Path) -> AsyncIterator[Watched]:
    """API, worker with two children, sweeper; logs at DEBUG, each request logged, all traced."""
    async with AsyncExitStack() as stack:
        engines = stack.enter_context(
            EmbeddedEngines(directory / "engines", postgres_settings={"fsync": "off"})
        )
        migrate.upgrade(engines.database_url)
        key = await ensure_first_key(engines.database_url)
        assert key is not None
        model = stack.enter_context(ModelServer())
        spans = stack.enter_context(collecting())
        settings = Settings(
            database_url=_with_password(engines.database_url, CANARIES["database password"]),
            redis_url=engines.redis_url,
            openai_base_url=model.url,
            openai_api_key=CANARIES["model key"],
            model="scripted-test-model",
            calls_in_flight=8,
            call_deadline_seconds=2.0,
            label_lease_seconds=4.0,
            retry_base_seconds=0.05,
            max_attempts=2,
            sweep_seconds=0.2,
            # all that fails is told one by one, with no rest for the endpoint
            breaker_failures=1000,
        )
        ports = {name: processes.free_port() for name in ("api", "worker", "sweeper")}
        more = {
            "SECONDLOOK_LOG_LEVEL": "DEBUG",
            "SECONDLOOK_ACCESS_LOG": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        of = {name: {**more, "SECONDLOOK_METRICS_PORT": str(port)} for name, port in ports.items()}
        programs = {
            "api": processes.api_server(settings, directory, port=ports["api"], **more),
            "worker": processes.worker(settings, directory, processes=2, more=of["worker"]),
            "sweeper": processes.sweeper(settings, directory, more=of["sweeper"]),
        }
        for each in programs.values():
            stack.callback(each.kill)
            each.start()
        base_url = f"http://127.0.0.1:{ports['api']}"
        await processes.until_answered(f"{base_url}/readyz")
        await programs["worker"].until_it_says("worker ready")
        await programs["sweeper"].until_it_says("sweeper ready")
        http = await stack.enter_async_context(
            processes.client(base_url, {"Authorization": f"Bearer {key}"})
        )
        watched = Watched(
            engines=engines,
            settings=settings,
            model=model,
            api=programs["api"],
            worker=programs["worker"],
            sweeper=programs["sweeper"],
            client=Api(base_url, key, http),
            ports=ports,
            spans=spans,
            logs=directory,
        )

        async def keep_problems(answer: httpx2.Response) -> None:
            if answer.status_code >= 400:
                watched.problems.append((await answer.aread()).decode())

        http.event_hooks["response"].append(keep_problems)
        yield watched


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace("@", f":{password}@")))
