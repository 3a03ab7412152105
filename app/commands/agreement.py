"""`secondlook agreement`: how far people agree who rated the same items."""

from pathlib import Path
from typing import Annotated

import typer


def agreement(
    ratings: Annotated[Path, typer.Argument(help="CSV with the columns item, rater and rating")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell how far people agree who rated the same items, beyond chance.

    An empty rating is a missing one. Categories that are all numbers are ordered as numbers, others
    by the alphabet, which is what ordinal alpha then goes by; interval alpha needs numbers.
    """
    # the other commands need not wait for numpy, scipy and rich
    import json  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    from app.commands import ratings_report  # noqa: PLC0415
    from app.domain.raters import encode, rater_agreement  # noqa: PLC0415

    try:
        coded = encode(ratings_report.read_ratings(ratings))
    except OSError as error:
        typer.echo(f"secondlook agreement: {error.filename}: {error.strerror or error}", err=True)
        raise typer.Exit(2) from error
    except ValueError as error:
        typer.echo(f"secondlook agreement: {error}", err=True)
        raise typer.Exit(2) from error
    result = rater_agreement(coded)
    if as_json:
        typer.echo(json.dumps(ratings_report.as_dict(coded, result), indent=1, allow_nan=False))
        return
    Console().print(ratings_report.figures(coded, result))
