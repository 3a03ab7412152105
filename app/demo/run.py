"""`secondlook demo`: the main job, start to end, on real engines."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.access.bootstrap import make_admin_key
from app.demo import show
from app.demo.client import DemoClient, Sample
from app.demo.identity import DESCRIPTION, MODEL_ID
from app.demo.sample import industries, part
from app.infra.supervisor import StartError
from app.settings import SettingsError
from app.up import Service, UpOptions, default_data_dir, running_service, usable_port

_OWN_MODEL = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "SECONDLOOK_MODEL")
_PORT = 8000
_EXPLAIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How the demo runs.

    Attributes:
        port: of the API; None is 8000, or a free one where that is taken.
        ends: whether it ends by itself instead of serving on.
    """

    port: int | None = None
    ends: bool = False


def run_demo(options: DemoOptions) -> int:
    """Runs the demo; the exit status for the shell."""
    console = Console()
    told = False
    try:
        with _model(console) as model:
            up = UpOptions(port=_port(options.port), data_dir=default_data_dir() / "demo")
            environ = {**os.environ, **model.environ}
            with running_service(
                up, environ=environ, first_key=_no_first_key, announce=console.print
            ) as service:
                key = asyncio.run(make_admin_key(service.database_url, name="demo"))
                model.wait()
                project = asyncio.run(_story(console, service, key))
                told = True
                if not options.ends:
                    show.go_on(console, base_url=service.base_url, key=key, project=project)
                    console.print("\nServing until Ctrl-C.")
                    service.wait()
    except KeyboardInterrupt:
        return 0 if told else 128 + signal.SIGINT
    except (StartError, SettingsError, RuntimeError) as error:
        sys.stderr.write(f"secondlook: {error}\n")
        return 1
    return 0


def _port(wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    try:
        return usable_port("127.0.0.1", _PORT)
    except StartError:
        return 0


async def _no_first_key(_database_url: str) -> str | None:
    """The demo makes a key of its own each time: it can't show the first one twice."""
    return None


@dataclass(frozen=True, slots=True)
class _Model:
    """Who labels: the environment that names it, and how to wait until it answers."""

    environ: Mapping[str, str]
    wait: Callable[[], object]


@contextmanager
def _model(console: Console) -> Iterator[_Model]:
    """The user's own model, else the demo's, served on loopback."""
    given = [name for name in _OWN_MODEL if os.environ.get(name)]
    if given:
        if not os.environ.get("SECONDLOOK_MODEL"):
            raise SettingsError(f"{given[0]} is set, so set SECONDLOOK_MODEL to the model's name")
        where = os.environ.get("OPENAI_BASE_URL", "OpenAI")
        console.print(f"Model: {os.environ['SECONDLOOK_MODEL']} at {where}")
        yield _Model({}, lambda: None)
        return
    console.print(f"Model: {MODEL_ID} ({DESCRIPTION})", highlight=False)
    port = usable_port("127.0.0.1", 0)
    environ = {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "OPENAI_API_KEY": "demo",
        "SECONDLOOK_MODEL": MODEL_ID,
    }
    with _demo_server(port) as wait:
        yield _Model(environ, wait)


@contextmanager
def _demo_server(port: int) -> Iterator[Callable[[], None]]:
    """The demo model as a process; it trains while the engines start, so waiting comes later."""
    process = subprocess.Popen(  # noqa: S603  # our own server, with nothing of the user in it
        [sys.executable, "-m", "app.demo.server", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        # Ctrl-C is ours to pass on, when the workers have stopped asking
        start_new_session=True,
    )

    def wait() -> None:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("the demo model did not start")

    try:
        yield wait
    finally:
        process.terminate()
        process.wait()


def _samples() -> list[Sample]:
    return [Sample(each.id, each.text, each.industry) for each in part("stream")]


async def _story(console: Console, service: Service, key: str) -> str:
    samples = _samples()
    truth = {each.external_id: each.truth for each in samples}
    async with httpx2.AsyncClient(
        base_url=service.base_url, headers={"Authorization": f"Bearer {key}"}, timeout=60
    ) as http:
        client = DemoClient(http)
        await client.make_project(industries())
        with _progress(console) as progress:
            labelling = progress.add_task("labelling", total=len(samples))
            began = time.monotonic()
            await client.send(samples)
            told, told_at = None, time.monotonic()
            async for labelled in client.watch_labelling():
                progress.update(labelling, completed=labelled)
                if time.monotonic() - told_at > _EXPLAIN_SECONDS:
                    told_at = time.monotonic()
                    trouble = await client.what_holds_it_up()
                    if trouble not in {None, told}:
                        told = trouble
                        progress.console.print(f"{trouble}; trying again, with growing pauses")
            rate = len(samples) / (time.monotonic() - began)
        console.print(f"{len(samples)} items through labelling, {rate:.0f} labels per second\n")
        console.print(show.least_certain(await client.least_certain(10), truth))
        with _progress(console) as progress:
            reviewing = progress.add_task("reviewing", total=len(samples))
            await client.review_all(
                truth, progress=lambda count: progress.advance(reviewing, count)
            )
        report = await client.agreement()
        console.print(
            "The queue is worked: simulated reviewers decided every item by the known truth.\n"
        )
        if report["accuracy"]["n"]:
            console.print(show.by_confidence(report))
            console.print(show.thresholds(report))
        else:
            console.print("The model gave no item a label, so there is no agreement to tell of.")
        return client.project


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
