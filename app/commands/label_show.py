"""What `secondlook label` shows: where it stands, and in the end what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from app.commands.label_output import Tally, faults_of
from app.commands.label_project import policy_words
from app.commands.label_service import KEY_VARIABLE, Reached
from app.commands.label_trouble import Standing
from app.commands.label_work import Done
from app.domain.agreement import CONFIDENCE_BINS, UNKNOWN_BIN

_PLAIN_SECONDS = 30.0
_BAR = 40


class Screen:
    """A progress bar where there is a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._said = 0.0

    @contextmanager
    def starting(self) -> Iterator[None]:
        """While the service starts."""
        with self._console.status("starting the service"):
            yield

    @contextmanager
    def labelling(self) -> Iterator[None]:
        """While rows are labelled."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
        )
        # a bar that can't move would be one useless line in a log
        disabled = not self._console.is_terminal
        with Progress(*columns, console=self._console, disable=disabled) as progress:
            self._task = progress.add_task("labelling", total=None, words="")
            self._progress = progress
            self._said = time.monotonic()
            yield
        self._progress = None

    def show(self, standing: Standing) -> None:
        words = f"{standing.rate:.0f}/s, for people {standing.for_people:,}"
        left = standing.of - standing.labelled
        if standing.rate and left:
            words += f", {_duration(left / standing.rate)} left"
        if self._progress is not None:
            self._progress.update(
                self._task, completed=standing.labelled, total=standing.of, words=words
            )
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _PLAIN_SECONDS:
            self._said = now
            self.tell(f"labelled {standing.labelled:,} of {standing.of:,}, {words}")

    def tell(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def summary(
    tally: Tally,
    done: Done,
    *,
    project: Mapping[str, Any],
    name: str,
    out: Path | None,
) -> RenderableType:
    """What came of the rows."""
    where = "standard output" if out is None else str(out)
    parts: list[RenderableType] = [Text(f"{tally.rows:,} rows of {name}, written to {where}\n")]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(justify="right")
    table.add_column()
    policy = policy_words(project["policy"]["policy"])
    unknown = ", ".join(f"{reason} {n:,}" for reason, n in tally.unknown.most_common())
    for count, words, always in (
        (tally.accepted, f"accepted: the model decided, by {policy}", True),
        (tally.waiting, "for review: wait for people, the least certain first", True),
        (tally.by_people, "decided by people", False),
        (tally.faulty, f"not labelled: can't be used{_seen(out)}", False),
    ):
        if count or always:
            table.add_row(f"{count:,}", f"{count / max(tally.rows, 1):.1%}", words)
    parts.append(table)
    parts += [Text(f"  {line}") for line in tally.first_faults]
    if tally.faulty > len(tally.first_faults):
        parts.append(Text(f"  and {tally.faulty - len(tally.first_faults):,} more"))
    if tally.bins or unknown:
        parts.append(_confidences(tally, unknown))
    if tally.accepted:
        parts.append(
            Text("A threshold promises nothing: what it is worth shows when people have reviewed.")
        )
    parts.append(Text(_effort(done)))
    return Group(*parts)


def go_on(reached: Reached, *, project: str, out: Path | None) -> str:
    """Where the queue is and how to serve it, to be copied."""
    key = f'-H "Authorization: Bearer ${KEY_VARIABLE}"'
    base = reached.base_url if reached.serve is None else "http://127.0.0.1:8000"
    lines = ["What waits for people is in the review queue:"]
    if reached.serve is not None:
        lines.append(f"  {reached.serve}")
    lines.append(f"  curl {key} {base}/v1/projects/{project}/queue")
    into = "the output" if out is None else out.name
    lines.append(f"When they have decided, the same command puts their labels into {into}.")
    return "\n".join(lines)


def plain(console: Console, text: str) -> None:
    """Lines as they are: not wrapped, coloured or read as markup."""
    console.print(escape(text), soft_wrap=True, highlight=False)


def _confidences(tally: Tally, unknown: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("confidence")
    table.add_column("rows", justify="right")
    table.add_column("")
    most = max([*tally.bins.values(), tally.unknown.total(), 1])
    counts = [(_bin(index), tally.bins[index]) for index in reversed(range(UNKNOWN_BIN))]
    if unknown:
        counts.append(("unknown", tally.unknown.total()))
    for words, count in counts:
        table.add_row(words, f"{count:,}", "█" * -(-count * _BAR // most))
    if unknown:
        table.caption, table.caption_justify = f"unknown: {unknown}", "left"
    return table


def _bin(index: int) -> str:
    low, high = CONFIDENCE_BINS[index : index + 2]
    return f"{low:g} to {high:g}"


def _effort(done: Done) -> str:
    if not done.created:
        return "Everything was labelled already; the model was not asked again."
    return (
        f"{done.created:,} items labelled in {_duration(done.seconds)}, "
        f"{done.created / max(done.seconds, 0.001):.0f} a second."
    )


def _seen(out: Path | None) -> str:
    return "" if out is None else f", see {faults_of(out).name}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.0f} h"
