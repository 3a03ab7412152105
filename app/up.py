"""The whole service as one process tree: engines, migrations, API, worker, sweeper.

`up` is the command; `running_service` the same for code that wants a service to talk to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from app.access.bootstrap import ensure_first_key
from app.infra import metrics_directory
from app.infra.embedded import EmbeddedEngines
from app.infra.supervisor import (
    Announce,
    InterruptedStartError,
    Part,
    StartError,
    Supervisor,
    answers_http,
    log_says,
)
from app.serving.parent import listen
from app.settings import SettingsError, load_settings, service_urls, with_urls

FirstKey = Callable[[str], Coroutine[Any, Any, str | None]]
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What `secondlook up` may be told.

    Attributes:
        host: the address the API listens on.
        port: its port; 0 takes any free one.
        data_dir: where engines and logs live; None is `default_data_dir`.
        workers: labelling processes; None is one a core, four at most.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: Path | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class ServicePlan:
    """What the parts of the service need to be described: all that is decided before they start."""

    host: str
    port: int
    workers: int
    directory: Path
    env: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is run on the engines: first the preparations one by one, then the parts together."""

    prepare: tuple[Part, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service.

    Attributes:
        base_url: its address, such as `http://127.0.0.1:8000`.
        admin_key: the first key if this start made it, which is the only time it is known.
        database_url: its database, embedded or not.
        redis_url: its Redis or Valkey, embedded or not.
        data_dir: where its logs are, and its engines' data.
        supervisor: its process tree.
    """

    base_url: str
    admin_key: str | None
    database_url: str
    redis_url: str
    data_dir: Path
    supervisor: Supervisor

    def wait(self) -> None:
        """Serve until told to stop.

        Raises:
            StartError: a part could not be kept running, and everything has been stopped.
            KeyboardInterrupt: a signal said so; leaving the context stops everything.
        """
        self.supervisor.wait()


def secondlook_program(plan: ServicePlan) -> Program:
    """The parts of Secondlook. A higher stage is stopped earlier; the engines are 0 and 1."""

    def python(name: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", name, *arguments)

    # The data directory is also where they run: `python -m`, celery and uvicorn all put the working
    # directory before everything else they import from, and it may well have an `app` of its own.
    part = partial(Part, directory=plan.directory, env=plan.env)
    pool = ("--concurrency", str(plan.workers), "--hostname", f"secondlook-{plan.port}@%h")
    alone = ("--without-gossip", "--without-mingle", "--loglevel", "INFO")
    return Program(
        prepare=(part(name="migrate", argv=python("app.cli", "migrate"), once=True, stage=3),),
        parts=(
            part(
                name="api",
                argv=python("app.cli", "serve", "--host", plan.host, "--port", str(plan.port)),
                # no balancer has to notice first
                env={**plan.env, "SECONDLOOK_DRAIN_SECONDS": "0"},
                ready=answers_http(loopback_of(plan.host), plan.port, "/readyz"),
                stage=3,
                grace_seconds=35.0,
            ),
            part(
                name="worker",
                argv=python("celery", "-A", "workers.app", "worker", *pool, *alone),
                # without a broker it keeps trying, and the sweeper labels meanwhile
                ready=log_says("worker ready", "Cannot connect to"),
                stage=2,
                grace_seconds=30.0,
            ),
            part(
                name="sweeper",
                argv=python("workers.sweeper"),
                ready=log_says("sweeper ready"),
                stage=3,
            ),
        ),
    )


def up(
    options: UpOptions,
    *,
    first_key: FirstKey = ensure_first_key,
    program: Callable[[ServicePlan], Program] = secondlook_program,
) -> int:
    """Run the service until a signal; the exit status for the shell."""
    try:
        with running_service(options, first_key=first_key, program=program) as service:
            say(f"Secondlook is at {service.base_url} (Ctrl-C stops it)")
            if not os.environ.get("SECONDLOOK_MODEL"):
                say("SECONDLOOK_MODEL is not set: each project must name its model (labeler.model)")
            say(f"Data and logs: {service.data_dir}")
            service.wait()
    except KeyboardInterrupt:
        return 0
    except (StartError, SettingsError) as error:
        sys.stderr.write(f"secondlook: {error}\n")
        return 1
    return 0


@contextmanager
def running_service(
    options: UpOptions,
    *,
    announce: Announce | None = None,
    first_key: FirstKey = ensure_first_key,
    program: Callable[[ServicePlan], Program] = secondlook_program,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Service]:
    """The whole service for as long as the block lasts; to be entered where no event loop runs.

    In the main thread, the first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt in the block
    and begins to stop the service; a second one hurries.

    Args:
        options: where to serve and keep data.
        announce: gets a line for a person now and then; None writes it to standard output.
        first_key: makes the first admin key unless there is a key.
        program: describes the parts.
        environ: DATABASE_URL and REDIS_URL in it take the place of the embedded engines, each by
            itself; the parts get all of it.

    Raises:
        StartError: something can't start, or (from the block's end) could not be kept running.
        SettingsError: a setting is wrong.
        KeyboardInterrupt: a signal came.
    """
    announce = announce or say
    port = usable_port(options.host, options.port)
    supervisor = Supervisor(options.data_dir or default_data_dir(environ), announce=announce)
    with _signals_stop(supervisor), _stopping(supervisor):
        database_url, redis_url = _start_engines(supervisor, environ)
        urls = with_urls(environ, database_url=database_url, redis_url=redis_url)
        steps = program(
            ServicePlan(
                host=options.host,
                port=port,
                workers=options.workers or min(4, os.cpu_count() or 1),
                directory=supervisor.dir.path,
                # all of them as one: whoever is asked for /metrics answers for every part
                env={
                    **urls,
                    "PYTHONUNBUFFERED": "1",
                    metrics_directory.VARIABLE: str(
                        metrics_directory.clean_directory(supervisor.dir.path / "metrics")
                    ),
                },
            )
        )
        for part in steps.prepare:
            supervisor.start(part)
        key = asyncio.run(first_key(database_url))
        if key is not None:  # at once: should the start fail later, it is not shown again
            announce(f"Admin key, shown this once: {key}")
        supervisor.start(*steps.parts)
        yield Service(
            base_url=f"http://{_in_url(loopback_of(options.host))}:{port}",
            admin_key=key,
            database_url=database_url,
            redis_url=redis_url,
            data_dir=supervisor.dir.path,
            supervisor=supervisor,
        )


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """SECONDLOOK_DATA_DIR; else `.data` of the checkout this code is in; else the user's data home.

    It never depends on the working directory, so the same command finds the same data anywhere.
    """
    if environ.get("SECONDLOOK_DATA_DIR"):
        return Path(environ["SECONDLOOK_DATA_DIR"])
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").exists():
        return root / ".data"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "secondlook"
    data_home = environ.get("XDG_DATA_HOME")
    return (Path(data_home) if data_home else Path.home() / ".local" / "share") / "secondlook"


def usable_port(host: str, port: int) -> int:
    """The port, or a free one for 0, after trying to listen there.

    Raises:
        StartError: it is taken, or this machine has no such address, or it may not be used.
    """
    try:
        listeners = listen(host, port)
    except StartError as error:
        raise StartError(f"{error} Choose another with --port or --host.") from error
    usable: int = listeners[0].getsockname()[1]
    for each in listeners:
        each.close()
    return usable


def loopback_of(host: str) -> str:
    """How this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  only compared


def say(line: str) -> None:
    """A line for the person at the terminal, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def _stopping(supervisor: Supervisor) -> Iterator[None]:
    """Stop everything at the end, and let the real cause be the one that is told.

    When a part is lost, the block mostly fails by a connection error before it could know why.
    """
    try:
        yield
    except InterruptedStartError as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        supervisor.stop()
        if supervisor.failure is not None and supervisor.failure is not error:
            raise supervisor.failure from error
        raise
    finally:
        supervisor.stop()
    if supervisor.failure is not None:
        raise supervisor.failure


@contextmanager
def _signals_stop(supervisor: Supervisor) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's own
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        if supervisor.stopping:
            supervisor.ask_hurry()
            return
        supervisor.ask_stop()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_engines(supervisor: Supervisor, environ: Mapping[str, str]) -> tuple[str, str]:
    """The two URLs, of engines started now where the environment names none."""
    database_url, redis_url = service_urls(environ)
    engines = EmbeddedEngines(
        supervisor.dir.path,
        postgres=not database_url,
        valkey=not redis_url,
        supervisor=supervisor,
    )
    urls = (database_url or engines.database_url, redis_url or engines.redis_url)
    # before anything starts: a wrong setting should not cost a start
    load_settings(environ, database_url=urls[0], redis_url=urls[1])
    engines.start()
    return urls
