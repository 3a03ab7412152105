"""What `secondlook label` is told, made sense of before anything is started."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.domain.labels import Label, LabelProblem, LabelSet, LabelSetError

DEFAULT_THRESHOLD = 0.95
USUAL_SOURCE = "logprobs"
"""A call a row, as the command promises; `auto` may find that it takes several."""
STDIN = "-"
_LABEL_POINTER = re.compile(r"/(\d+)/(name|description)")


class UsageError(ValueError):
    """The command can't be done as it was given; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """The options of the command, as its help describes them; None is not given."""

    items: str
    labels: str | None
    labels_file: Path | None
    instructions: str
    text_column: str | None
    id_column: str | None
    out: str | None
    prefix: str | None
    delimiter: str | None
    encoding: str | None
    threshold: float | None
    model: str | None
    base_url: str | None
    source: str
    project: str | None
    service: str | None
    data_dir: Path | None
    workers: int | None
    give_up_after: float

    @property
    def name(self) -> str:
        """What the input is called."""
        return "stdin" if self.items == STDIN else Path(self.items).name

    @property
    def to_stdout(self) -> bool:
        return self.out == STDIN or (self.out is None and self.items == STDIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The project a run needs.

    Attributes:
        name: by which it is found again.
        labels: None where it must be there already.
        instructions: for the model; empty is none.
        model: None is the service's own.
        base_url: of the labeler; None is the service's own.
        source: where its confidences come from.
        threshold: None where none was named: an old project keeps its own.
    """

    name: str
    labels: LabelSet | None
    instructions: str
    model: str | None
    base_url: str | None
    source: str
    threshold: float | None


def wanted_project(options: LabelOptions, labels: LabelSet | None, *, endpoint: str) -> Wanted:
    """The project of these options.

    Unless it is named, its name holds a digest of all that an answer depends on, so that the same
    command finds it again and another question begins another one.

    Args:
        options: of the command.
        labels: of the options.
        endpoint: who is asked, in words that stay the same: a base URL, or whose default.

    Raises:
        UsageError: there are neither labels nor a project.
    """
    if labels is None and options.project is None:
        raise UsageError("which labels? Name them with --labels a,b,c or --labels-file")
    asked = (
        None if labels is None else labels.to_dicts(),
        *(options.instructions, options.model, endpoint),
        *(options.text_column, options.id_column),
        # left out where it is the usual one: runs of before find their projects again
        *(() if options.source == USUAL_SOURCE else (options.source,)),
    )
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:10]
    return Wanted(
        name=options.project or f"{options.name[:180]} {digest}",
        labels=labels,
        instructions=options.instructions,
        model=options.model,
        base_url=options.base_url if options.service else None,
        source=options.source,
        threshold=options.threshold,
    )


class NamesLabels(Protocol):
    """What `read_labels` looks at of a command's options."""

    @property
    def labels(self) -> str | None: ...

    @property
    def labels_file(self) -> Path | None: ...


def read_labels(options: NamesLabels) -> LabelSet | None:
    """The labels of the options, None where none are named.

    Raises:
        UsageError: they are named twice, or are no set a model can choose from.
        OSError: the file can't be read.
    """
    if options.labels is not None and options.labels_file is not None:
        raise UsageError("--labels and --labels-file: give one of the two")
    if options.labels is not None:
        return _label_set(_named(options.labels.split(",")), "--labels")
    if options.labels_file is not None:
        where = str(options.labels_file)
        try:
            text = options.labels_file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{where}: is not UTF-8") from error
        return _label_set(_of_file(text, where), where)
    return None


def label_problem(problem: LabelProblem, names: Sequence[str]) -> str:
    """What is wrong with a label, naming labels by their names instead of by pointers."""

    def named(match: re.Match[str]) -> str:
        index = int(match[1])
        name = f"label {index + 1}" + (f" ({names[index]})" if names[index].strip() else "")
        return name if match[2] == "name" else f"the description of {name}"

    whole = f"{problem.pointer} {problem.detail}".strip()
    return _LABEL_POINTER.sub(named, whole)


def default_out(options: LabelOptions) -> Path:
    """`items.labeled.csv` beside `items.csv`."""
    path = Path(options.items)
    return path.with_name(f"{path.stem}.labeled{path.suffix}")


def require_writable(out: Path, source: Path, *, kind: str) -> None:
    """That the output can be written, before anything is paid.

    Raises:
        UsageError: it is the input, or of another format by its name, or its folder can't be
            written to.
    """
    if out.exists() and out.samefile(source):
        raise UsageError(f"--out: {out} is the input; the output must be another file")
    others = {"CSV": {".jsonl", ".ndjson", ".json"}, "JSONL": {".csv", ".tsv"}}[kind]
    if out.suffix.lower() in others:
        raise UsageError(f"--out: the output is {kind}, as the input is; name it so")
    if out.is_dir():
        raise UsageError(f"--out: {out} is a folder")
    if not out.exists() or out.is_file():
        trial = part_of(out)
        try:
            trial.touch()
            trial.unlink()
        except OSError as error:
            raise UsageError(f"--out: {out} can't be written: {error.strerror}") from error


def part_of(out: Path) -> Path:
    """Where a file is written until it is whole."""
    return out.with_name(f".{out.name}.part")


def _named(names: Sequence[str]) -> list[Label]:
    return [Label(name.strip()) for name in names if name.strip()]


def _of_file(text: str, where: str) -> list[Label]:
    if text.lstrip()[:1] not in {"[", "{"}:
        return _named(text.splitlines())
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is not JSON: {error}") from error
    if isinstance(value, dict):
        value = [{"name": name, "description": each} for name, each in value.items()]
    return [_label(index, each, where) for index, each in enumerate(value, start=1)]


def _label(index: int, value: Any, where: str) -> Label:
    if isinstance(value, str):
        return Label(value)
    if isinstance(value, dict) and value.keys() <= {"name", "description"}:
        name, description = value.get("name"), value.get("description", "")
        if isinstance(name, str) and isinstance(description, str):
            return Label(name, description)
    raise UsageError(
        f'{where}: label {index} must be a name or {{"name": …, "description": …}}, both texts'
    )


def _label_set(labels: Sequence[Label], where: str) -> LabelSet:
    try:
        return LabelSet.of(labels)
    except LabelSetError as error:
        names = [label.name for label in labels]
        words = "; ".join(label_problem(problem, names) for problem in error.problems[:5])
        raise UsageError(f"{where}: {words}") from error
