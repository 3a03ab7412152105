"""The command `secondlook`."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from app.infra import migrate as migrations
from app.reports.invariants import check_invariants
from app.settings import SettingsError, load_settings

cli = typer.Typer(
    name="secondlook",
    no_args_is_help=True,
    add_completion=False,
    help="A model labels, people get what needs a second look.",
    pretty_exceptions_enable=False,
)


@cli.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="where to; head is the newest")] = "head",
    *,
    down: Annotated[bool, typer.Option("--down", help="go back to the revision")] = False,
) -> None:
    """Bring the database of DATABASE_URL to a revision."""
    url = load_settings().database_url
    if down:
        migrations.downgrade(url, revision)
    else:
        migrations.upgrade(url, revision)


@cli.command()
def doctor() -> None:
    """Name every violated invariant in the database of DATABASE_URL; exit 1 if there is one."""
    violations = asyncio.run(check_invariants(load_settings().database_url))
    for violation in violations:
        typer.echo(f"{violation.invariant}: {violation.detail}")
    typer.echo(f"{len(violations)} violations")
    raise typer.Exit(1 if violations else 0)


@cli.command("version")
def show_version() -> None:
    """Which version this is."""
    typer.echo(version("secondlook"))


def main() -> None:
    """Runs the command; a wrong setting is a clear line, not a traceback."""
    try:
        cli()
    except SettingsError as error:
        sys.exit(f"secondlook: {error}")


if __name__ == "__main__":
    main()
