"""The command `secondlook`.

Each command imports what it needs when it is run: none waits for what only another one uses.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from app.commands.admin_key import admin_key
from app.commands.agreement import agreement
from app.commands.evaluate import evaluate
from app.commands.label import label
from app.commands.parts import sweep, worker
from app.commands.score import score
from app.settings import SettingsError, database_url, load_settings

cli = typer.Typer(
    name="secondlook",
    no_args_is_help=True,
    add_completion=False,
    help="A model labels, people get what needs a second look.",
    pretty_exceptions_enable=False,
)


@cli.command()
def up(
    *,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 8000,
    data_dir: Annotated[Path | None, typer.Option(help="where engines keep their data")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="labelling processes")] = None,
) -> None:
    """Run the whole service: engines, migrations, API, worker, sweeper. Ctrl-C stops it.

    DATABASE_URL and REDIS_URL in the environment take the place of the embedded engines.
    """
    from app.up import UpOptions  # noqa: PLC0415
    from app.up import up as run_up  # noqa: PLC0415

    options = UpOptions(host=host, port=port, data_dir=data_dir, workers=workers)
    raise typer.Exit(run_up(options))


@cli.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 8000,
    processes: Annotated[int, typer.Option(min=1, max=64, help="that serve side by side")] = 1,
) -> None:
    """Run the API alone. SIGTERM drains and stops it, SIGHUP renews its processes one by one."""
    from app.infra.logging import configure_logging  # noqa: PLC0415
    from app.infra.supervisor import StartError  # noqa: PLC0415
    from app.serving.parent import serve as run_serve  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings.log_level, process="api")
    try:
        status = run_serve(host, port, processes=processes, drain_seconds=settings.drain_seconds)
    except StartError as error:
        sys.exit(f"secondlook: {error}")
    raise typer.Exit(status)


@cli.command()
def demo(
    *,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    exit_: Annotated[bool, typer.Option("--exit", help="end instead of serving on")] = False,
) -> None:
    """Show the main job on real engines with the bundled sample.

    On your own model with OPENAI_BASE_URL, OPENAI_API_KEY and SECONDLOOK_MODEL.
    """
    from app.demo.run import DemoOptions, run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(DemoOptions(port=port, ends=exit_)))


@cli.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="where to; head is the newest")] = "head",
    *,
    down: Annotated[bool, typer.Option("--down", help="go back to the revision")] = False,
) -> None:
    """Bring the database of DATABASE_URL to a revision."""
    from app.infra import migrate as migrations  # noqa: PLC0415
    from app.infra.logging import configure_logging  # noqa: PLC0415

    url = database_url()
    configure_logging("INFO", process="migrate")
    try:
        if down:
            migrations.downgrade(url, revision)
        else:
            migrations.upgrade(url, revision)
    except migrations.LockedError as error:
        sys.exit(f"secondlook: {error}")


@cli.command()
def doctor() -> None:
    """Name every violated invariant in the database of DATABASE_URL; exit 1 if there is one."""
    from app.reports.invariants import check_invariants  # noqa: PLC0415

    violations = asyncio.run(check_invariants(database_url()))
    for violation in violations:
        typer.echo(f"{violation.invariant}: {violation.count}")
        for row in violation.rows:
            typer.echo(f"  {row}")
        if violation.count > len(violation.rows):
            typer.echo(f"  and {violation.count - len(violation.rows)} more")
    typer.echo(f"{sum(violation.count for violation in violations)} violations")
    raise typer.Exit(1 if violations else 0)


@cli.command("version")
def show_version() -> None:
    """Which version this is."""
    typer.echo(version("secondlook"))


cli.command()(label)
cli.command()(worker)
cli.command()(sweep)
cli.command()(admin_key)
cli.command()(score)
cli.command()(evaluate)
cli.command()(agreement)


def main() -> None:
    """Runs the command; a wrong setting or an absent database is a clear line, not a traceback."""
    try:
        cli()
    except SettingsError as error:
        sys.exit(f"secondlook: {error}")
    except Exception as error:
        # by name, since most commands never import the driver; the ORM wraps what it says
        said = getattr(error, "orig", None) or error
        if type(said).__module__.startswith("psycopg") and "OperationalError" in _names(said):
            sys.exit(f"secondlook: the database can't be reached: {str(said).splitlines()[0]}")
        raise


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


if __name__ == "__main__":
    main()
