"""Up, down, up again, on every PostgreSQL of this machine; and the main job on each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
from alembic import command
from sqlalchemy import create_engine, pool

from app.infra import migrate
from app.infra.db import Base, sqlalchemy_url
from app.reports.invariants import check_invariants
from app.settings import Settings
from tests.migrations.conftest import EmptyDatabase
from tests.support.model_server import ModelServer
from tests.support.populated import populate

# Everything that has a definition, as the server itself writes it down.
_SCHEMA = """
SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
       || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'options ' || relname || ' ' || coalesce(array_to_string(reloptions, ','), '')
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""
_LEFT = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
          AND typname NOT LIKE '\\_%%'
"""


def found(url: str, query: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute(query.encode()).fetchall()}


def about_us(schema: set[str]) -> set[str]:
    return {line for line in schema if "alembic_version" not in line}


class TestUpAndDown:
    def test_up_down_and_up_again_is_up(self, empty_database: EmptyDatabase) -> None:
        with empty_database() as url:
            assert migrate.pending(url)
            migrate.upgrade(url)
            assert not migrate.pending(url)
            first = found(url, _SCHEMA)
            migrate.downgrade(url, "base")
            assert migrate.pending(url)
            assert found(url, _LEFT) <= {"alembic_version", "alembic_version_pkc"}
            migrate.upgrade(url)
            assert found(url, _SCHEMA) == first

    def test_up_twice_is_up_once(self, empty_database: EmptyDatabase) -> None:
        with empty_database() as url:
            migrate.upgrade(url)
            first = found(url, _SCHEMA)
            migrate.upgrade(url)
            assert found(url, _SCHEMA) == first

    def test_several_at_once_take_turns(self, empty_database: EmptyDatabase) -> None:
        with empty_database() as url, ThreadPoolExecutor(3) as several:
            for ended in [several.submit(migrate.upgrade, url) for _ in range(3)]:
                ended.result()
            assert not migrate.pending(url)


class TestTheModels:
    def test_need_no_migration(self, empty_database: EmptyDatabase) -> None:
        with empty_database() as url:
            migrate.upgrade(url)
            command.check(migrate.alembic_config(url))

    def test_say_the_same_to_the_letter(self, empty_database: EmptyDatabase) -> None:
        # alembic compares no check constraints, no predicates of indexes, no storage options
        with empty_database() as migrated, empty_database() as modelled:
            migrate.upgrade(migrated)
            engine = create_engine(sqlalchemy_url(modelled), poolclass=pool.NullPool)
            Base.metadata.create_all(engine)
            engine.dispose()
            schema = about_us(found(migrated, _SCHEMA))
            assert len(schema) > 200
            assert schema == about_us(found(modelled, _SCHEMA))


class TestTheMainJob:
    async def test_runs_and_breaks_no_invariant(
        self, empty_database: EmptyDatabase, make_settings: Callable[..., Settings]
    ) -> None:
        with empty_database() as url, ModelServer() as model:
            migrate.upgrade(url)
            await populate(make_settings(database_url=url, openai_base_url=model.url), model)
            assert await check_invariants(url) == []
