"""`secondlook label` as a user runs it: a process of its own, on real engines."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.access.bootstrap import ensure_first_key
from app.infra.embedded import EmbeddedEngines
from app.settings import Settings
from tests.support import processes
from tests.support.api import Api, serve_api
from tests.support.model_plays import FAULTS, Answer
from tests.support.model_server import ModelServer
from tests.support.processes import ROOT, Program

pytestmark = pytest.mark.timeout(600)

LABELS = ("billing", "bug", "other thing")
CALLS = 4


@dataclass(frozen=True)
class Ran:
    """A run that ended."""

    status: int
    out: bytes
    said: str


@dataclass(frozen=True)
class Command:
    """The command, ready to be run in a folder."""

    folder: Path
    env: Mapping[str, str]

    def arguments(self, *more: str) -> list[str]:
        return ["-m", "app.cli", "label", *more, "--labels", ",".join(LABELS)]

    def run(self, *more: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [sys.executable, *self.arguments(*more)],
            env={**self.env, **(env or {})},
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            check=False,
        )
        return Ran(done.returncode, done.stdout, (done.stderr + done.stdout).decode())

    @contextmanager
    def running(self, *more: str) -> Iterator[Program]:
        with processes.program(
            *self.arguments(*more), env=self.env, log=self.folder / "label.log"
        ) as program:
            program.start()
            yield program

    def write(self, texts: Sequence[str], name: str = "items.csv") -> Path:
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["n", "text"], *enumerate(texts)])
        return path


def read(path: Path, *, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, strict=True, delimiter=delimiter))


def texts_of(count: int, word: str = "item") -> list[str]:
    return [f"{word} {number}: I was charged twice, please help" for number in range(count)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngines]:
    """A Valkey of these tests' own: others leave wake-ups in theirs."""
    with EmbeddedEngines(tmp_path_factory.mktemp("broker"), postgres=False) as engines:
        yield engines


@pytest.fixture
def settings(
    database_url: str,
    broker: EmbeddedEngines,
    model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    return make_settings(
        database_url=database_url,
        redis_url=broker.redis_url,
        openai_base_url=model_server.url,
        calls_in_flight=CALLS,
    )


@pytest.fixture
def command(settings: Settings, tmp_path: Path) -> Command:
    """The command with a database of the test's own in place of embedded engines."""
    env = processes.environment(settings, SECONDLOOK_DATA_DIR=str(tmp_path / "data"))
    return Command(tmp_path, {**env, "SECONDLOOK_MODEL": "scripted-test-model"})


class TestEmbeddedEngines:
    def test_a_file_comes_back_and_is_paid_once(
        self, tmp_path: Path, model_server: ModelServer
    ) -> None:
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        command = Command(
            tmp_path,
            {
                **env,
                "OPENAI_BASE_URL": model_server.url,
                "SECONDLOOK_MODEL": "m",
                "SECONDLOOK_DATA_DIR": str(tmp_path / "data"),
            },
        )
        source = tmp_path / "items.csv"
        rows = [
            *([f"größe {n}", f'"quoted"; and\nmore {n}', "gold"] for n in range(20)),
            ["again", '"quoted"; and\nmore 3', ""],
            ["empty", "  ", ""],
        ]

        def write() -> None:
            with source.open("w", newline="", encoding="utf-8-sig") as file:
                writer = csv.writer(file, delimiter=";")
                writer.writerows([["id", "text", "label"], *rows])
                file.write("too;many;cells;here\r\n")

        write()
        first = command.run(str(source))
        assert first.status == 3, first.said
        assert "Admin key of this data, shown this once: slk_" in first.said
        assert "23 rows of items.csv, written to" in first.said
        assert "row 22 (line 44): text: is empty" in first.said
        assert "secondlook up" in first.said
        assert len(model_server.calls) == 20, "equal texts are asked once"

        out = tmp_path / "items.labeled.csv"
        labelled = read(out, delimiter=";")
        assert [[row["id"], row["text"], row["label"]] for row in labelled] == [
            *rows,
            ["too", "many", "cells"],
        ]
        good = labelled[:21]
        assert {row["secondlook_label"] for row in good} <= set(LABELS)
        assert {row["secondlook_route"] for row in good} == {"accept", "review"}
        for row in good:
            accepted = float(row["secondlook_confidence"]) >= 0.95
            assert (row["secondlook_route"] == "accept") == accepted
            assert (row["secondlook_decided_by"] == "model") == accepted
        assert labelled[20]["secondlook_confidence"] == labelled[3]["secondlook_confidence"]
        assert labelled[21]["secondlook_error"] == "text: is empty"
        errors = (tmp_path / "items.labeled.errors.jsonl").read_text().splitlines()
        assert [json.loads(line)["input"] for line in errors] == [
            "empty;  ;",
            "too;many;cells;here",
        ]

        before = out.read_bytes()
        second = command.run(str(source))
        assert second.status == 3, second.said
        assert "the model was not asked again" in second.said
        assert "Admin key" not in second.said
        assert out.read_bytes() == before
        assert len(model_server.calls) == 20

        # rows moved, gone and new: only the new text costs a call
        rows[:] = [["new", "a new text", ""], *reversed(rows[:15])]
        write()
        third = command.run(str(source))
        assert third.status == 3, third.said
        assert len(model_server.calls) == 21
        assert [row["id"] for row in read(out, delimiter=";")][:2] == ["new", "größe 14"]


class TestInterrupted:
    @pytest.mark.parametrize(
        "number",
        [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL],
    )
    async def test_nothing_is_paid_twice_but_calls_in_flight(
        self, command: Command, model_server: ModelServer, number: signal.Signals
    ) -> None:
        model_server.latency = 0.5
        texts = texts_of(120)
        source = command.write(texts)
        options = (str(source), "--workers", "1")
        with command.running(*options) as program:
            await model_server.wait_for_calls(24)
            os.kill(program.pid, number)
            status = await program.ended()
        assert status == (130 if number == signal.SIGINT else -number)
        assert not (command.folder / "items.labeled.csv").exists()
        assert model_server.count < len(texts), "it was stopped in the middle"
        model_server.latency = 0.0
        ran = await asyncio.to_thread(command.run, *options)
        assert ran.status == 0, ran.said
        out = read(command.folder / "items.labeled.csv")
        assert [row["text"] for row in out] == texts
        assert all(row["label"] for row in out)
        calls = model_server.calls_per_item
        assert set(calls) == set(texts)
        twice = [text for text, count in calls.items() if count > 1]
        # those under way, and those answered whose labels were not written yet
        assert len(twice) <= 2 * CALLS * (number == signal.SIGKILL)
        assert max(calls.values()) <= 2

    @pytest.mark.long
    async def test_a_file_that_changes_meanwhile_is_told(
        self, command: Command, model_server: ModelServer
    ) -> None:
        model_server.latency = 0.2
        source = command.write(texts_of(40))
        with command.running(str(source)) as program:
            await model_server.wait_for_calls(12)
            command.write(texts_of(41))
            assert await program.ended() == 1
            assert "changed while it was being labelled" in program.said()
        ran = await asyncio.to_thread(command.run, str(source))
        assert ran.status == 0, ran.said
        assert len(model_server.calls) == 41


@pytest.mark.long
class TestModelFails:
    def test_a_wrong_key_is_told_and_costs_no_file_its_labels(
        self, command: Command, model_server: ModelServer
    ) -> None:
        model_server.default = [FAULTS["401"]]
        source = command.write(texts_of(30))
        env = {"SECONDLOOK_RETRY_BASE_SECONDS": "3"}
        ran = command.run(str(source), "--give-up-after", "5", env=env)
        assert ran.status == 1
        assert "the model server answered 401; is OPENAI_API_KEY right? Trying again" in ran.said
        assert "The same command goes on where this one stopped." in ran.said
        assert len(model_server.calls_per_item) == 8, "the others were not sent"
        model_server.default = [Answer()]
        ran = command.run(str(source), env=env)
        assert ran.status == 0, ran.said
        assert all(row["label"] for row in read(command.folder / "items.labeled.csv"))

    def test_a_model_that_refuses_every_request_stops_it(
        self, command: Command, model_server: ModelServer
    ) -> None:
        model_server.default = [FAULTS["400"]]
        ran = command.run(str(command.write(texts_of(30))))
        assert ran.status == 1
        assert "gave none of the first 8 rows a label: the model server answered 400" in ran.said
        assert model_server.count == 8

    def test_without_log_probabilities_it_says_so_in_time(
        self, command: Command, model_server: ModelServer
    ) -> None:
        model_server.default = [FAULTS["null_logprobs"]]
        model_server.latency = 0.1
        ran = command.run(str(command.write(texts_of(60))))
        assert ran.status == 0, ran.said
        assert "No row has a confidence so far (no_logprobs " in ran.said
        rows = read(command.folder / "items.labeled.csv")
        assert {(row["confidence"], row["route"], row["reason"]) for row in rows} == {
            ("", "review", "no_logprobs")
        }
        assert all(row["label"] for row in rows)


@pytest.fixture
async def service(settings: Settings, tmp_path: Path) -> AsyncIterator[Api]:
    """A running service: the API here, a worker beside it."""

    key = await ensure_first_key(settings.database_url)
    assert key is not None
    worker = processes.worker(settings, tmp_path)
    sweeper = processes.sweeper(settings, tmp_path)
    try:
        async with serve_api(settings, admin_key=key) as api:
            worker.start()
            sweeper.start()
            yield api
    finally:
        worker.kill()
        sweeper.kill()


@pytest.fixture
def remote(service: Api, tmp_path: Path) -> Command:
    """The command of somebody who has a key of the service and nothing else."""
    return Command(tmp_path, {"PATH": os.environ["PATH"], "SECONDLOOK_KEY": service.admin_key})


class TestService:
    async def test_jsonl_through_a_running_service_and_back_when_people_decided(
        self, service: Api, remote: Command, model_server: ModelServer
    ) -> None:
        model_server.rules = {"item 3:": [FAULTS["refusal"]]}
        source = remote.folder / "items.jsonl"
        lines = [
            json.dumps({"id": n, "text": text, "deep": {"n": [n, None]}})
            for n, text in enumerate(texts_of(25))
        ]
        source.write_text("\n".join([*lines[:5], "{oops", *lines[5:]]) + "\n")
        options = (str(source), "--service", service.base_url, "--id-column", "id")
        ran = await asyncio.to_thread(remote.run, *options, "--threshold", "0.9")
        assert ran.status == 3, ran.said
        out = remote.folder / "items.labeled.jsonl"
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert rows[5]["error"] == "is not JSON at character 2"
        del rows[5]
        assert [row["id"] for row in rows] == list(range(25))
        assert [row["deep"] for row in rows] == [{"n": [n, None]} for n in range(25)]
        refused = rows[3]
        assert (refused["label"], refused["reason"]) == (None, "refusal")
        assert refused["error"] == "The model refused to answer."
        assert all(
            (row["route"] == "accept") == (row["confidence"] >= 0.9)
            for row in rows
            if row is not refused
        )
        assert f"{service.base_url}/v1/projects/" in ran.said

        (project,) = (await service.get("/v1/projects"))["data"]
        (claimed,) = await service.claim(project["id"])
        assert claimed["item"]["metadata"]["deep"]["n"][1] is None
        assert claimed["item"]["external_id"] == "3", "unknown first"
        assert (await service.submit(claimed, LABELS[1])).status_code == 200
        ran = await asyncio.to_thread(remote.run, *options)
        assert "the model was not asked again" in ran.said
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert rows[3] == {**refused, "label": LABELS[1], "decided_by": "person"}
        assert len(model_server.calls) == 25

        # what is routed keeps its route: another line is drawn in the output, or begun anew
        ran = await asyncio.to_thread(remote.run, *options, "--threshold", "0.5")
        assert (ran.status, "routed by the threshold 0.9 already" in ran.said) == (2, True)

    async def test_standard_input_and_output(self, service: Api, remote: Command) -> None:
        content = "\n".join(["text", *texts_of(10)]).replace(", ", " ") + "\n"
        ran = await asyncio.to_thread(
            remote.run, "-", "--service", service.base_url, stdin=content.encode()
        )
        assert ran.status == 0, ran.said
        rows = list(csv.DictReader(ran.out.decode().splitlines()))
        assert [row["text"] for row in rows] == content.splitlines()[1:]
        assert "10 rows of stdin, written to standard output" in ran.said

    async def test_a_named_project_must_ask_the_same(self, service: Api, remote: Command) -> None:
        project = await service.make_project(labels=["x", "y"])
        source = remote.write(texts_of(2))
        options = (str(source), "--service", service.base_url, "--project", project)
        ran = await asyncio.to_thread(remote.run, *options)
        assert (ran.status, "has other labels (x, y)" in ran.said) == (2, True)

    async def test_a_wrong_key_and_a_wrong_address(self, service: Api, remote: Command) -> None:
        source = remote.write(texts_of(2))
        key = service.admin_key[:-1] + ("a" if service.admin_key[-1] != "a" else "b")
        ran = await asyncio.to_thread(
            remote.run,
            *(str(source), "--service", service.base_url),
            env={"SECONDLOOK_KEY": key},
        )
        assert (ran.status, "Is SECONDLOOK_KEY right?" in ran.said) == (1, True)
        model = service.base_url + "/nothing"
        ran = await asyncio.to_thread(remote.run, str(source), "--service", model)
        assert ran.status == 1


class TestRefusedAtOnce:
    """No engine is started for what can't be done."""

    @pytest.mark.parametrize(
        ("content", "options", "words"),
        [
            ("id,body\n1,a\n", (), "--text-column; there are: id, body"),
            ("text\n", (), "no row that can be labelled"),
            ("text,n\n ,1\n", (), "no row that can be labelled: row 1 (line 2): text: is empty"),
            ("text\na\n", ("--out", "items.csv"), "is the input"),
            (None, (), "items.csv: No such file or directory"),
        ],
    )
    def test_with_the_reason(
        self, tmp_path: Path, content: str | None, options: tuple[str, ...], words: str
    ) -> None:
        source = tmp_path / "items.csv"
        if content is not None:
            source.write_text(content)
        named = tuple(str(source) if option == "items.csv" else option for option in options)
        env = {"PATH": os.environ["PATH"], "SECONDLOOK_DATA_DIR": str(tmp_path / "data")}
        ran = Command(tmp_path, {**env, "OPENAI_API_KEY": "x"}).run(
            str(source), "--model", "m", *named
        )
        assert (ran.status, words in ran.said) == (2, True), ran.said
        assert not (tmp_path / "data").exists()
