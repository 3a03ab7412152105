"""No migration holds up requests; and the rules that say so do refuse what they should."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.infra import migrate
from tests.migrations.conftest import EmptyDatabase
from tests.migrations.rules import violations

CONTRACT = "Contract: "


@contextmanager
def statements() -> Iterator[list[str]]:
    """What SQLAlchemy sends within the block."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
            "AND relnamespace = 'public'::regnamespace"
        ).fetchall()
    return {row[0] for row in rows}


def faults(url: str, scripts: Path = migrate.SCRIPTS) -> dict[str, list[str]]:
    """The violations of every revision that is not applied yet, applying it."""
    found = {}
    for revision in reversed(list(ScriptDirectory(str(scripts)).walk_revisions())):
        existing = tables(url)
        with statements() as sent:
            migrate.upgrade(url, revision.revision, scripts=scripts)
        contracts = (revision.doc or "").startswith(CONTRACT)
        if broken := violations(sent, existing=existing, contracts=contracts):
            found[revision.revision] = broken
    return found


def test_every_migration_keeps_the_rules(empty_database: EmptyDatabase) -> None:
    with empty_database() as url:
        with statements() as sent:
            assert faults(url) == {}
        assert any("CREATE TABLE items" in each for each in sent)


# on tables that are in use
REFUSED = [
    "CREATE INDEX ix ON items (label)",
    "CREATE UNIQUE INDEX IF NOT EXISTS ix ON public.items (label)",
    'CREATE INDEX "ix" ON ONLY "items" USING gin (metadata)',
    "DROP INDEX ix",
    "REINDEX TABLE items",
    "LOCK TABLE items",
    "VACUUM FULL items",
    "TRUNCATE items",
    "DROP TABLE items",
    "UPDATE items SET hue = 'red'",
    "DELETE FROM items WHERE hue IS NULL",
    "ALTER TABLE items ADD COLUMN hue TEXT NOT NULL",
    "ALTER TABLE items ADD hue uuid DEFAULT gen_random_uuid()",
    "ALTER TABLE items ADD COLUMN hue timestamptz DEFAULT clock_timestamp() NOT NULL",
    "ALTER TABLE items ADD COLUMN other uuid REFERENCES projects (id)",
    "ALTER TABLE items ADD COLUMN hue text UNIQUE",
    "ALTER TABLE items ADD COLUMN hue text CHECK (hue <> '')",
    "ALTER TABLE items ADD COLUMN n bigserial",
    "ALTER TABLE items ADD COLUMN n int GENERATED ALWAYS AS (1 + 1) STORED",
    "ALTER TABLE items ADD COLUMN a text, ADD COLUMN b text NOT NULL",
    "ALTER TABLE items ADD CONSTRAINT ck CHECK (hue IN ('red', 'blue'))",
    "ALTER TABLE items ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES projects (id)",
    "ALTER TABLE items ADD CONSTRAINT uq UNIQUE (a, b)",
    "ALTER TABLE items ADD CONSTRAINT ex EXCLUDE USING gist (a WITH =)",
    "ALTER TABLE items ALTER COLUMN label TYPE varchar(10)",
    "ALTER TABLE items ALTER label SET DATA TYPE varchar(10)",
    "ALTER TABLE items ALTER COLUMN label SET NOT NULL",
    "ALTER TABLE items RENAME COLUMN label TO word",
    "ALTER TABLE items RENAME TO things",
    "ALTER TABLE items DROP COLUMN label",
    "ALTER TABLE items SET UNLOGGED",
    "/* a comment */ ALTER TABLE items -- of two kinds\n DROP COLUMN label",
]
ALLOWED = [
    "CREATE TABLE fresh (id uuid PRIMARY KEY, n int NOT NULL)",
    "CREATE INDEX ix ON fresh (n)",
    "ALTER TABLE fresh ADD CONSTRAINT ck CHECK (n > 0)",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS ix ON items (label)",
    "DROP INDEX CONCURRENTLY IF EXISTS ix",
    "UPDATE items SET hue = 'red' WHERE id IN (SELECT id FROM items WHERE hue IS NULL LIMIT 1000)",
    "ALTER TABLE items ADD COLUMN hue TEXT",
    "ALTER TABLE items ADD COLUMN hue TEXT DEFAULT 'red' NOT NULL",
    "ALTER TABLE items ADD COLUMN since timestamptz DEFAULT now() NOT NULL",
    "ALTER TABLE items ADD COLUMN n integer DEFAULT 0",
    "ALTER TABLE items ADD COLUMN document jsonb DEFAULT '{}'::jsonb NOT NULL",
    "ALTER TABLE items ADD COLUMN flag boolean DEFAULT (false)",
    "ALTER TABLE items ADD CONSTRAINT ck CHECK (hue IN ('red', 'blue')) NOT VALID",
    "ALTER TABLE items VALIDATE CONSTRAINT ck",
    "ALTER TABLE items ADD CONSTRAINT uq UNIQUE USING INDEX ix",
    "ALTER TABLE items DROP CONSTRAINT ck",
    "ALTER TABLE items ALTER COLUMN label DROP NOT NULL",
    "ALTER TABLE items ALTER COLUMN label SET DEFAULT 'x'",
    "INSERT INTO fresh SELECT 1",
    "UPDATE alembic_version SET version_num = '0002'",
]
EXISTING = {"items", "projects"}


class TestTheRules:
    @pytest.mark.parametrize("statement", REFUSED)
    def test_refuse(self, statement: str) -> None:
        (fault,) = violations([statement], existing=EXISTING)
        assert statement.split(maxsplit=1)[0] in fault or "comment" in statement
        # and would not mind a table that nobody uses yet
        if " ON " in statement or statement.startswith("ALTER TABLE items "):
            fresh = statement.replace("items", "fresh")
            assert violations([fresh], existing=EXISTING) == []

    @pytest.mark.parametrize("statement", ALLOWED)
    def test_allow(self, statement: str) -> None:
        assert violations([statement], existing=EXISTING) == []

    def test_let_a_contract_drop_what_it_names(self) -> None:
        dropping = ["ALTER TABLE items DROP COLUMN label", "DROP TABLE items"]
        assert len(violations(dropping, existing=EXISTING)) == 2
        assert violations(dropping, existing=EXISTING, contracts=True) == []
        # a contract is no licence to lock
        index = ["CREATE INDEX ix ON items (label)"]
        assert len(violations(index, existing=EXISTING, contracts=True)) == 1

    def test_want_steps_that_commit_by_themselves_alone(self) -> None:
        check = "ALTER TABLE items ADD CONSTRAINT ck CHECK (n > 0) NOT VALID"
        validate = "ALTER TABLE items VALIDATE CONSTRAINT ck"
        index = "CREATE INDEX CONCURRENTLY ix ON items (n)"
        assert len(violations([check, validate], existing=EXISTING)) == 1
        assert len(violations([index, "CREATE TABLE fresh (n int)"], existing=EXISTING)) == 1
        assert violations(["SET lock_timeout = 0", index], existing=EXISTING) == []

    def test_want_one_table_in_use_altered_at_a_time(self) -> None:
        both = [f"ALTER TABLE {table} ADD COLUMN n integer" for table in sorted(EXISTING)]
        (fault,) = violations(both, existing=EXISTING)
        assert "['items', 'projects']" in fault
        assert violations(both, existing={"items"}) == []
