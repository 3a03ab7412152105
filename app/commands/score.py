"""`secondlook score`: the confidence of a saved model answer."""

from pathlib import Path
from typing import Annotated

import typer


def score(
    answer: Annotated[
        str,
        typer.Argument(help="a saved answer as JSON, or one a line; - is standard input"),
    ],
    *,
    labels: Annotated[str | None, typer.Option(help="a,b,c: what it may be")] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(help='one a line, or JSON: [{"name": …, "description": …}, …]'),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON, an object an answer")
    ] = False,
) -> None:
    """Score a saved answer of a model as the service would, without a server or a database.

    The answer is what the endpoint sent: a chat completion with logprobs or one of
    its choices, an answer of the Responses or the Decisions API, or a line of a
    batch's output. The label may stand in JSON ({"label": …}), within prose or behind
    thinking, or be all that the model wrote.

    Ends with 0 when every answer was read, be its confidence known or not; 3 when
    some lines are no answers (they are named); 2 when it can't be done as given.
    """
    from app.commands.label_options import UsageError  # noqa: PLC0415  # loads quickly, alone
    from app.commands.score_run import ScoreOptions, run_score  # noqa: PLC0415  # others need none

    try:
        status = run_score(
            ScoreOptions(answer=answer, labels=labels, labels_file=labels_file, as_json=as_json)
        )
    except UsageError as error:
        typer.echo(f"secondlook score: {error}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"secondlook score: {error.filename}: {error.strerror or error}", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(status)
