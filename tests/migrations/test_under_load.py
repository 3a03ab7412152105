"""Migrations of a database in use: no request fails, whatever stands in their way."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory

from app.infra import migrate
from app.reports.invariants import check_invariants
from tests.faults.rolling import Load, under_load
from tests.faults.support import Service, running_service
from tests.migrations.test_rules import faults
from tests.support import processes
from tests.support.processes import Program
from tests.support.sql import Sql

pytestmark = pytest.mark.timeout(600)

EXPANSION = {
    "hue": """
    op.add_column("items", sa.Column("hue", sa.Text(), nullable=True))
    op.execute("ALTER TABLE items ALTER COLUMN hue SET DEFAULT 'grey'")
""",
    "fill": """
    steps.in_batches("UPDATE items SET hue = 'grey'", table="items", where="hue IS NULL", size=50)
""",
    "index": """
    steps.create_index("ix_hue", "items", ["project_id", "hue"])
""",
    "check": """
    op.execute("ALTER TABLE items ADD CONSTRAINT ck_hue CHECK (hue IS NOT NULL) NOT VALID")
""",
    "validate": """
    steps.validate("items", "ck_hue")
""",
}
MIGRATE = """
import logging, sys
from pathlib import Path
from app.infra import migrate
logging.basicConfig(level="INFO")
url, scripts, tries = sys.argv[1:]
try:
    migrate.upgrade(url, scripts=Path(scripts), patience=migrate.Patience(tries=int(tries)))
except migrate.LockedError as error:
    sys.exit(str(error))
"""


def write_revisions(scripts: Path, revisions: dict[str, str], *, after: str) -> Path:
    """Migrations on top of the project's own, in a copy of its folder."""
    shutil.copytree(migrate.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    for name, body in revisions.items():
        (scripts / "versions" / f"{name}.py").write_text(
            f'"""{name}"""\nimport sqlalchemy as sa\nfrom alembic import op\n'
            f"from migrations import steps\nrevision = {name!r}\ndown_revision = {after!r}\n"
            f"def upgrade():{body}\ndef downgrade():\n    pass\n"
        )
        after = name
    return scripts


def head() -> str:
    newest = ScriptDirectory(str(migrate.SCRIPTS)).get_current_head()
    assert newest is not None
    return newest


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    settings: dict[str, Any] = {"calls_in_flight": 8, "sweep_seconds": 0.5}
    async with running_service(tmp_path, settings=settings, worker_processes=1) as running:
        running.worker.start()
        running.sweeper.start()
        yield running


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    return write_revisions(tmp_path / "migrations", EXPANSION, after=head())


@pytest.fixture
def migrator(service: Service, scripts: Path, tmp_path: Path) -> Iterator[Any]:
    """Makes programs that migrate to the newest of `scripts`."""
    with ExitStack() as stack:

        def make(name: str, *, tries: int = 1000) -> Program:
            program = Program(
                *("-c", MIGRATE, service.settings.database_url, str(scripts), str(tries)),
                env=processes.environment(service.settings),
                log=tmp_path / f"{name}.log",
            )
            stack.callback(program.kill)
            program.start()
            return program

        yield make


@contextmanager
def reading(service: Service, table: str) -> Iterator[None]:
    """A transaction that has read a table and does not end: every ALTER TABLE must wait for it."""
    with psycopg.connect(service.settings.database_url, application_name="a report") as connection:
        connection.execute(f"SELECT count(*) FROM {table}".encode())
        yield


async def check_all_is_well(service: Service, load: Load) -> None:
    assert load.failures == []
    await service.until_value(
        "SELECT count(*) FROM items WHERE state IN ('pending', 'labeling')", 0
    )
    assert await service.value("SELECT count(*) FROM items") == len(load.sent)
    assert await service.value("SELECT count(*) FROM reviews") == load.answered["submit"]
    assert await check_invariants(service.settings.database_url) == []


class TestUnderLoad:
    async def test_the_newest_is_a_step_of_nothing(self, service: Service, tmp_path: Path) -> None:
        async with under_load(service, [service.api.base_url]) as load:
            await load.goes_on()
            command = Program(
                *("-m", "app.cli", "migrate"),
                env=processes.environment(service.settings),
                log=tmp_path / "migrate.log",
            )
            command.start()
            assert await command.ended() == 0
            await load.goes_on()
        await check_all_is_well(service, load)

    async def test_an_expansion_by_two_at_once_is_done_once(
        self, service: Service, migrator: Any
    ) -> None:
        async with under_load(service, [service.api.base_url]) as load:
            await load.goes_on()
            several = [migrator(f"migrator-{n}") for n in range(2)]
            for each in several:
                assert await each.ended() == 0, each.said()
            await load.goes_on()
        assert await service.value("SELECT count(*) FROM items WHERE hue IS NULL") == 0
        assert await service.value(
            "SELECT convalidated FROM pg_constraint WHERE conname = 'ck_hue'"
        )
        assert await service.value(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_hue'::regclass"
        )
        await check_all_is_well(service, load)

    async def test_one_that_is_in_the_way_of_a_long_transaction_lets_requests_pass(
        self, service: Service, migrator: Any
    ) -> None:
        async with under_load(service, [service.api.base_url]) as load:
            await load.goes_on()
            with reading(service, "items"):
                hasty = migrator("hasty", tries=2)
                assert await hasty.ended() == 1
                assert "will be tried again (1)" in hasty.said()
                assert "the migration gave up: others hold a lock it needs" in hasty.said()
                assert "(a report, idle in transaction)" in hasty.said()
                patient = migrator("patient")
                for tries in range(1, 4):
                    await patient.until_it_says(f"will be tried again ({tries})")
                    # they go on although the transaction that is in the way does too
                    await load.goes_on(at_least=5)
            assert await patient.ended() == 0, patient.said()
            await load.goes_on()
        assert await service.value("SELECT count(*) FROM items WHERE hue IS NULL") == 0
        await check_all_is_well(service, load)


def test_the_expansion_of_these_tests_keeps_the_rules(make_database: str, scripts: Path) -> None:
    assert faults(make_database, scripts) == {}


async def test_what_a_request_holds_while_all_else_is_filled_is_waited_for(
    make_database: str, tmp_path: Path
) -> None:
    steps = {
        "things": """
    op.execute("CREATE TABLE things (id serial PRIMARY KEY, hue text)")
    op.execute("INSERT INTO things SELECT FROM generate_series(1, 120)")
""",
        "fill": EXPANSION["fill"].replace('"items"', '"things"').replace("items", "things"),
    }
    scripts = write_revisions(tmp_path / "migrations", steps, after=head())
    migrate.upgrade(make_database, "things", scripts=scripts)
    async with await psycopg.AsyncConnection.connect(make_database) as request:
        # one it will have changed itself, one it lets go as it was
        await request.execute("UPDATE things SET hue = 'red' WHERE id = 3")
        await request.execute("SELECT FROM things WHERE id = 7 FOR UPDATE")
        filling = asyncio.create_task(
            asyncio.to_thread(migrate.upgrade, make_database, scripts=scripts)
        )
        while not await Sql(request).somebody_waits():
            assert not filling.done(), "the rows that were held were passed over"
            await asyncio.sleep(0.02)
        await request.commit()
        await filling
        hues = await request.execute("SELECT hue, count(*) FROM things GROUP BY 1 ORDER BY 1")
        assert await hues.fetchall() == [("grey", 119), ("red", 1)]


class TestWhatWasInterrupted:
    def test_an_index_half_built_is_built_anew(self, make_database: str, tmp_path: Path) -> None:
        step = {"index": EXPANSION["index"].replace("hue", "label")}
        scripts = write_revisions(tmp_path / "migrations", step, after=head())
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_label'::regclass"
        with psycopg.connect(make_database, autocommit=True) as connection:
            connection.execute("CREATE INDEX ix_label ON items (label)")
            connection.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_label'::regclass"
            )
            migrate.upgrade(make_database, scripts=scripts)
            assert connection.execute(valid).fetchone() == (True,)
            shown = connection.execute("SELECT pg_get_indexdef('ix_label'::regclass)").fetchone()
            assert shown is not None
            assert "(project_id, label)" in str(shown[0])
