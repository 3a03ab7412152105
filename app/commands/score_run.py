"""The work of `secondlook score`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from app.commands.label_options import UsageError, read_labels
from app.commands.score_input import SavedAnswer, saved_answers
from app.commands.score_show import as_dict, as_json, as_row, as_text
from app.domain.labels import LabelSet
from app.labeling.saved import NoAnswerError, Scored, score_saved

SOME_UNREAD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """The options of the command, as its help describes them; None is not given."""

    answer: str
    labels: str | None
    labels_file: Path | None
    as_json: bool


def run_score(options: ScoreOptions) -> int:
    """Scores and prints every answer; the exit status.

    Raises:
        UsageError: the labels or the input can't be used.
        OSError: a file can't be read.
    """
    labels = read_labels(options)
    if labels is None:
        raise UsageError("which labels? Name them with --labels a,b,c or --labels-file")
    status = 0
    with saved_answers(options.answer) as answers:
        for answer in answers:
            scored, error = _scored(answer, labels)
            if answer.line is None and error is not None:
                raise UsageError(f"{options.answer}: {error}")
            if error is not None:
                status = SOME_UNREAD
                typer.echo(f"secondlook score: line {answer.line}: {error}", err=True)
            _print(answer, scored, error, as_objects=options.as_json)
    return status


def _scored(answer: SavedAnswer, labels: LabelSet) -> tuple[Scored | None, str | None]:
    if answer.fault is not None:
        return None, answer.fault
    try:
        return score_saved(answer.value, labels=labels), None
    except NoAnswerError as error:
        return None, str(error)


def _print(
    answer: SavedAnswer, scored: Scored | None, error: str | None, *, as_objects: bool
) -> None:
    if as_objects:
        typer.echo(as_json(as_dict(scored, line=answer.line, error=error)))
    elif scored is not None and answer.line is None:
        typer.echo(as_text(scored))
    elif scored is not None and answer.line is not None:
        typer.echo(as_row(scored, line=answer.line))
