"""The service a run talks to: one that is there, or one of its own for as long as it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from app.access.bootstrap import ensure_first_key
from app.access.keys import Scope
from app.access.service import AccessService
from app.commands.label_options import LabelOptions, UsageError
from app.infra.db import Database
from app.infra.supervisor import StartError
from app.up import UpOptions, default_data_dir, running_service

KEY_VARIABLE = "SECONDLOOK_KEY"
# The key of a run is known to nobody when the run has been killed; it ends by itself all the same.
_KEY_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Reached:
    """A service that answers.

    Attributes:
        base_url: where.
        key: one that may do what a run does.
        serve: the command that serves the data again; None where the service stays.
    """

    base_url: str
    key: str
    serve: str | None


def endpoint_of(options: LabelOptions, environ: Mapping[str, str] = os.environ) -> str:
    """Who is asked, in words that stay the same from run to run.

    Raises:
        UsageError: nobody can be asked: no model, no endpoint, or no key of the service.
    """
    if options.service is not None:
        parts = urlsplit(options.service)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"--service: {options.service} is no http or https URL")
        if not environ.get(KEY_VARIABLE):
            raise UsageError(f"set {KEY_VARIABLE} to a key of the service at {options.service}")
        return (options.base_url or "").rstrip("/")
    if options.model is None:
        raise UsageError("which model? Name it with --model, or set SECONDLOOK_MODEL")
    keys = ("OPENAI_API_KEY", "OPENAI_API_KEY_FILE")
    if options.base_url is None and not any(environ.get(name) for name in keys):
        raise UsageError(
            "set OPENAI_API_KEY, or name another model server with --base-url (OPENAI_BASE_URL)"
        )
    return (options.base_url or "").rstrip("/")


@contextmanager
def reach(
    options: LabelOptions,
    *,
    tell: Callable[[str], None],
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Reached]:
    """The service of these options for as long as the block lasts.

    Args:
        options: of the command.
        tell: gets what the person must keep.
        environ: of the process.

    Raises:
        StartError: it can't start, or could not be kept running.
        SettingsError: a setting is wrong.
        KeyboardInterrupt: a signal came.
    """
    if options.service is not None:
        yield Reached(options.service.rstrip("/"), environ[KEY_VARIABLE], None)
        return

    async def first_key(database_url: str) -> str | None:
        key = await ensure_first_key(database_url)
        if key is not None:  # at once: should the start fail later, it is not shown again
            tell(f"Admin key of this data, shown this once: {key}")
        # told already
        return None

    directory = options.data_dir or default_data_dir(environ)
    up = UpOptions(port=0, data_dir=directory, workers=options.workers)
    # the model's key goes to the service's own endpoint only, so that has to be this one
    own = {"OPENAI_BASE_URL": options.base_url, "SECONDLOOK_MODEL": options.model}
    env = {**environ, **{name: value for name, value in own.items() if value is not None}}
    try:
        with running_service(
            up, announce=lambda _line: None, first_key=first_key, environ=env
        ) as service:
            key = asyncio.run(_run_key(service.database_url))
            yield Reached(service.base_url, key, _serve_command(directory, environ))
    except StartError as error:
        if "is in use by process" in str(error):
            raise StartError(
                f"{error} If it is `secondlook up`, label through it: --service with its address, "
                f"and {KEY_VARIABLE}."
            ) from error
        raise


async def _run_key(database_url: str) -> str:
    database = Database(database_url, pool_size=1, application_name="secondlook-label")
    await database.open()
    try:
        made = await AccessService(database).create(
            name="secondlook label",
            scopes=frozenset({Scope.ADMIN}),
            project_ids=None,
            may_name_reviewer=False,
            expires_at=datetime.now(UTC) + _KEY_LIFE,
        )
    finally:
        await database.close()
    return made.secret


def _serve_command(directory: Path, environ: Mapping[str, str]) -> str:
    if directory == default_data_dir(environ):
        return "secondlook up"
    return f"secondlook up --data-dir {directory}"
