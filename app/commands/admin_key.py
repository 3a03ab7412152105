"""`secondlook admin-key`: the way in, for whoever can reach the database."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from app.settings import database_url


def admin_key(
    *, name: Annotated[str, typer.Option(help="by which it is listed")] = "admin key"
) -> None:
    """Make an admin key for all projects in the database of DATABASE_URL; it is shown this once."""
    # the other commands need not wait for the driver
    from app.access.bootstrap import make_admin_key  # noqa: PLC0415
    from app.infra import migrate  # noqa: PLC0415

    url = database_url()
    if migrate.pending(url):
        sys.exit("secondlook: the database is behind this version: run `secondlook migrate` first")
    typer.echo(asyncio.run(make_admin_key(url, name=name)))
