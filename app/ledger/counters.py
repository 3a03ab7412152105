"""Counters that are transactional, appended and folded.

A transaction appends its deltas beside its change: inserts into a table, no row that anybody
shares. The sweeper folds them into totals. A read is totals plus what is not folded yet, in one
statement and so one snapshot. Updating shared totals instead would make every submit wait for
every other (154-253 transactions/s against 1,500-2,260 without).
"""

from __future__ import annotations

import uuid

from app.infra.db import Database


def append_of(source: str) -> str:
    """The statement that appends what the rows of a query hold in their column `deltas`.

    For use inside other statements of one project, `%(project_id)s`. One row a counter, however
    many rows move it.
    """
    return f"""
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, d.name, sum(d.delta::bigint)
    FROM {source} s CROSS JOIN LATERAL jsonb_each_text(s.deltas) AS d (name, delta)
    GROUP BY d.name HAVING sum(d.delta::bigint) <> 0
    """  # noqa: S608  # a name that our own statements give


_READ = """
SELECT name, sum(value)::bigint AS value FROM (
    SELECT name, value FROM counter_totals
    WHERE project_id = %(project_id)s AND starts_with(name, %(prefix)s)
    UNION ALL
    SELECT name, delta FROM counter_deltas
    WHERE project_id = %(project_id)s AND starts_with(name, %(prefix)s)
) AS parts
GROUP BY name HAVING sum(value) <> 0
"""

# One statement: what is deleted is what is added. Bounded, so that a fold after a long night ends
# within any statement's time. Two folds of one project never wait for the same deltas, and take
# its totals in the same order. The project is held first, as its deletion does.
_FOLD = """
WITH project AS (
    SELECT id FROM projects WHERE id = %(project_id)s FOR KEY SHARE SKIP LOCKED
), taken AS (
    SELECT id FROM counter_deltas
    WHERE project_id = %(project_id)s AND EXISTS (SELECT 1 FROM project)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM counter_deltas d USING taken WHERE d.id = taken.id RETURNING d.name, d.delta
), added AS (
    INSERT INTO counter_totals (project_id, name, value)
    SELECT %(project_id)s, name, sum(delta) FROM gone GROUP BY name ORDER BY name
    ON CONFLICT (project_id, name) DO UPDATE SET value = counter_totals.value + excluded.value
)
SELECT count(*) AS folded FROM gone
"""
FOLD_BATCH = 20_000

# One index probe a project, however many deltas wait.
_UNFOLDED = """
SELECT p.id AS project_id
FROM projects p
CROSS JOIN LATERAL (SELECT 1 FROM counter_deltas WHERE project_id = p.id LIMIT 1) d
"""


async def read(database: Database, project_id: uuid.UUID, *, prefix: str) -> dict[str, int]:
    """The counters of a project whose names begin with a prefix; those at zero are left out."""
    rows = await database.fetch_all(_READ, {"project_id": project_id, "prefix": prefix})
    return {row["name"]: row["value"] for row in rows}


async def fold(database: Database, project_id: uuid.UUID, *, batch: int = FOLD_BATCH) -> None:
    """Moves a project's deltas into its totals, `batch` at a time."""
    while True:
        row = await database.fetch_one(_FOLD, {"project_id": project_id, "limit": batch})
        if row is None or row["folded"] < batch:
            return


async def unfolded_projects(database: Database) -> list[uuid.UUID]:
    """The projects that have deltas to fold."""
    return [row["project_id"] for row in await database.fetch_all(_UNFOLDED, {})]
