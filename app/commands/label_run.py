"""`secondlook label` from its options to its exit status."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from rich.console import Console

from app.client import ServiceClient, ServiceError
from app.commands import label_show
from app.commands.label_answers import Answers
from app.commands.label_lines import InputError, Table
from app.commands.label_options import (
    STDIN,
    LabelOptions,
    UsageError,
    Wanted,
    default_out,
    read_labels,
    require_writable,
    wanted_project,
)
from app.commands.label_output import ChangedError, write
from app.commands.label_project import find_or_make
from app.commands.label_rows import Rows, Survey, added_names, open_table
from app.commands.label_service import KEY_VARIABLE, Reached, endpoint_of, reach
from app.commands.label_trouble import StoppedError
from app.commands.label_work import Work
from app.infra.supervisor import StartError
from app.settings import SettingsError

DONE, FAILED, MISUSED, DONE_IN_PART = 0, 1, 2, 3
INTERRUPTED = 128 + signal.SIGINT
_PATIENCE = 60.0
_AGAIN = "The same command goes on where this one stopped."


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be done, when all of it is known to make sense."""

    options: LabelOptions
    source: Path
    stamp: tuple[int, int]
    table: Table
    rows: Rows
    survey: Survey
    names: dict[str, str]
    out: Path | None
    wanted: Wanted


def run_label(options: LabelOptions) -> int:
    """Labels a file; the exit status for the shell."""
    console = Console(stderr=options.to_stdout)
    try:
        with _source(options) as path:
            try:
                task = _prepare(options, path, console)
            except OSError as error:
                return _failed(_said(error), MISUSED)
            return _run(task, console)
    except (UsageError, InputError) as error:
        return _failed(str(error), MISUSED)
    except OSError as error:
        return _failed(_said(error), FAILED)


def _run(task: _Task, console: Console) -> int:
    options = task.options
    survey = task.survey
    unusable = f", {survey.faulty:,} of them can't be used" if survey.faulty else ""
    id_column = f", id {options.id_column}" if options.id_column else ""
    label_show.plain(
        console,
        f"{options.name}: {survey.rows:,} rows{unusable}; text: {task.rows.text_column}{id_column}",
    )
    screen = label_show.Screen(console)
    try:
        with ExitStack() as stack:
            with screen.starting():
                reached = stack.enter_context(reach(options, tell=screen.tell))
            try:
                return asyncio.run(_label(task, reached, screen, console))
            except KeyboardInterrupt:
                if reached.serve is not None:
                    screen.tell("Stopping; calls under way are finished first.")
                raise
    except KeyboardInterrupt:
        return _failed(f"stopped; nothing is lost. {_AGAIN}", INTERRUPTED)
    except StoppedError as error:
        return _failed(f"{error} {_AGAIN}", FAILED)
    except ServiceError as error:
        hint = f" Is {KEY_VARIABLE} right?" if error.status in {401, 403} else ""
        return _failed(f"{error}.{hint} {_AGAIN}", FAILED)
    except ChangedError:
        again = "Run the same command again: what is labelled is not asked again."
        return _failed(f"{options.name} changed while it was being labelled. {again}", FAILED)
    except (StartError, SettingsError) as error:
        return _failed(str(error), FAILED)


@contextmanager
def _source(options: LabelOptions) -> Iterator[Path]:
    """The input as a file that can be read more than once."""
    if options.items != STDIN:
        yield Path(options.items)
        return
    with tempfile.NamedTemporaryFile(prefix="secondlook-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def _prepare(options: LabelOptions, path: Path, console: Console) -> _Task:
    """Everything that can be found wrong without a service is found here."""
    labels = read_labels(options)
    wanted = wanted_project(options, labels, endpoint=endpoint_of(options))
    stamp = _stamp(path)
    table = open_table(
        path, name=options.name, encoding=options.encoding, delimiter=options.delimiter
    )
    rows = Rows(table, text_column=options.text_column, id_column=options.id_column)
    out = None
    if not options.to_stdout:
        out = default_out(options) if options.out is None else Path(options.out)
        require_writable(out, path, kind=table.kind)
    with console.status(f"reading {options.name}"):
        survey = rows.survey(prefix=options.prefix)
    if survey.rows == survey.faulty:
        first = f": {survey.first_fault}" if survey.first_fault else ""
        raise InputError(f"{options.name} has no row that can be labelled{first}")
    names = added_names(survey.taken, prefix=options.prefix)
    return _Task(options, path, stamp, table, rows, survey, names, out, wanted)


async def _label(task: _Task, reached: Reached, screen: label_show.Screen, console: Console) -> int:
    headers = {"Authorization": f"Bearer {reached.key}"}
    async with httpx2.AsyncClient(
        base_url=reached.base_url, headers=headers, timeout=_PATIENCE
    ) as http:
        # a wrong address is told at once; a service that was there may be away for a while
        project = await find_or_make(ServiceClient(http), task.wanted)
        service = ServiceClient(http, patience=_PATIENCE)
        with Answers() as answers:
            work = Work(
                service,
                project["id"],
                rows=iter(task.rows),
                total=task.survey.rows - task.survey.faulty,
                answers=answers,
                give_up_after=task.options.give_up_after,
                view=screen,
            )
            with screen.labelling():
                done = await work.run()
            if _stamp(task.source) != task.stamp:
                raise ChangedError
            tally = write(task.table, task.rows, answers, names=task.names, out=task.out)
    console.print(
        label_show.summary(tally, done, project=project, name=task.options.name, out=task.out)
    )
    if tally.waiting:
        label_show.plain(console, label_show.go_on(reached, project=project["id"], out=task.out))
    return DONE_IN_PART if tally.faulty else DONE


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _said(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _failed(message: str, status: int) -> int:
    sys.stderr.write(f"secondlook label: {message}\n")
    return status
