"""Every invariant of the database as a query that finds its violations.

Run after every integration and fault test, and by hand as `secondlook doctor`. What a constraint
can say is said by a constraint; here stands what takes more than one row to see.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from app.domain.agreement import CONFIDENCE_BINS, UNKNOWN_BIN

_ROWS_NAMED = 20
_EDGES = f"ARRAY[{', '.join(str(edge) for edge in CONFIDENCE_BINS)}]::float8[]"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant.

    Attributes:
        invariant: its name, one of CHECKS.
        count: how many rows break it.
        rows: what 20 of them are, or all if they are fewer.
    """

    invariant: str
    count: int
    rows: tuple[str, ...]

    @property
    def detail(self) -> str:
        """The rows in one line."""
        more = self.count - len(self.rows)
        return "; ".join([*self.rows, *([f"and {more} more"] if more else [])])


# name -> rows that must not exist; each names what it found in `found`
CHECKS: dict[str, str] = {
    "items in review are in the queue, and nothing else is": """
        SELECT coalesce(i.id, q.item_id) || ' ' || coalesce(i.state, 'no item') AS found
        FROM (SELECT id, state FROM items WHERE state = 'in_review') i
        FULL JOIN (SELECT DISTINCT item_id FROM review_queue) q ON q.item_id = i.id
        WHERE i.id IS NULL OR q.item_id IS NULL
    """,
    "a queue slot is taken exactly while its assignment is leased": """
        SELECT q.item_id || ' held by ' || a.id || ' ' || a.state AS found
        FROM review_queue q JOIN assignments a ON a.id = q.assignment_id
        WHERE a.state <> 'leased'
        UNION ALL
        SELECT a.item_id || ' leased by ' || a.id || ' but free in the queue'
        FROM assignments a
        LEFT JOIN review_queue q ON q.assignment_id = a.id
        WHERE a.state = 'leased' AND q.item_id IS NULL
    """,
    "an item that needs labelling has a lease or a due time": """
        SELECT id || ' ' || state AS found FROM items
        WHERE (state = 'pending' AND next_attempt_at IS NULL)
           OR (state = 'labeling' AND lease_expires_at IS NULL)
    """,
    "an item has one final label exactly when it is accepted or completed": """
        SELECT i.id || ' ' || i.state || ' has ' || count(f.id) AS found
        FROM items i LEFT JOIN final_labels f ON f.item_id = i.id
        GROUP BY i.id, i.state
        HAVING count(f.id) <> (i.state IN ('accepted', 'completed'))::int
    """,
    "the final label of an item is the newest one stored": """
        SELECT concat(i.id, ' says ', i.final_label, ', stored ', f.label) AS found
        FROM items i JOIN LATERAL (
            SELECT label FROM final_labels WHERE item_id = i.id ORDER BY id DESC LIMIT 1
        ) f ON true
        WHERE i.final_label IS DISTINCT FROM f.label
    """,
    "an item is labelled once": """
        SELECT item_id || ' has ' || count(*) || ' predictions' AS found
        FROM predictions GROUP BY item_id HAVING count(*) > 1
    """,
    "an item shows its prediction": """
        SELECT i.id || ' differs from ' || p.id AS found
        FROM items i JOIN predictions p ON p.id = i.prediction_id
        WHERE p.item_id <> i.id
           OR (i.label, i.confidence, i.unknown_reason)
              IS DISTINCT FROM (p.label, p.confidence, p.unknown_reason)
    """,
    "a completed item has a review, and a review completes its item": """
        SELECT coalesce(i.id, r.item_id) || ' review ' || coalesce(r.id::text, 'missing') AS found
        FROM (SELECT id FROM items WHERE state = 'completed') i
        FULL JOIN reviews r ON r.item_id = i.id
        WHERE i.id IS NULL OR r.id IS NULL
    """,
    "a review has its submitted assignment": """
        SELECT coalesce(r.id, a.id)::text AS found
        FROM reviews r
        FULL JOIN (SELECT * FROM assignments WHERE state = 'submitted') a
            ON a.id = r.assignment_id
        WHERE r.id IS NULL OR a.id IS NULL OR r.reviewer <> a.reviewer OR r.item_id <> a.item_id
    """,
    "every item has its payload": """
        SELECT i.id::text AS found FROM items i
        LEFT JOIN item_payloads p ON p.item_id = i.id WHERE p.item_id IS NULL
    """,
    "the outbox tells of a change once": """
        SELECT concat(type, ' of ', data->>'item_id', ' told ', count(*), ' times') AS found
        FROM events WHERE type IN ('item.labeled', 'item.routed', 'item.completed')
        GROUP BY type, project_id, data->>'item_id' HAVING count(*) > 1
    """,
    "the outbox holds as many events as there were changes": """
        WITH changes AS (
            SELECT project_id, 'item.routed' AS type, count(*) AS n
            FROM items WHERE route IS NOT NULL GROUP BY 1
            UNION ALL
            SELECT project_id, 'item.completed', count(*)
            FROM items WHERE state = 'completed' GROUP BY 1
            UNION ALL
            SELECT project_id, 'review.submitted', count(*) FROM reviews GROUP BY 1
            UNION ALL
            SELECT project_id, 'assignment.expired', count(*)
            FROM assignments WHERE state = 'expired' GROUP BY 1
            UNION ALL
            SELECT project_id, 'item.labeled', count(*)
            FROM predictions WHERE label IS NOT NULL GROUP BY 1
            UNION ALL
            SELECT project_id, 'policy.updated', count(*)
            FROM policies WHERE version > 1 GROUP BY 1
            UNION ALL
            SELECT project_id, 'budget.exhausted', count(*) FROM budget_exhaustions GROUP BY 1
        ), told AS (
            SELECT project_id, type, count(*) AS n FROM events
            WHERE type IN (SELECT DISTINCT type FROM changes) GROUP BY 1, 2
        )
        SELECT 'project ' || project_id || ' ' || coalesce(c.type, t.type) || ': '
               || coalesce(c.n, 0) || ' changes, ' || coalesce(t.n, 0) || ' events' AS found
        FROM changes c FULL JOIN told t USING (project_id, type)
        WHERE coalesce(c.n, 0) <> coalesce(t.n, 0)
    """,
    "counters of states equal a recount": """
        WITH counted AS (
            SELECT project_id, 'items.' || state AS name, count(*) AS n FROM items GROUP BY 1, 2
        ), counter AS (
            SELECT project_id, name, sum(value) AS n FROM (
                SELECT project_id, name, value FROM counter_totals
                UNION ALL SELECT project_id, name, delta FROM counter_deltas
            ) parts WHERE starts_with(name, 'items.') GROUP BY 1, 2
        )
        SELECT 'project ' || project_id || ' ' || coalesce(a.name, b.name) || ': '
               || coalesce(a.n, 0) || ' counted, ' || coalesce(b.n, 0) || ' in the counter' AS found
        FROM counted a FULL JOIN counter b USING (project_id, name)
        WHERE coalesce(a.n, 0) <> coalesce(b.n, 0)
    """,
    "counters of agreement equal a recount": f"""
        WITH counter AS (
            SELECT project_id, name, sum(value) AS n FROM (
                SELECT project_id, name, value FROM counter_totals
                UNION ALL SELECT project_id, name, delta FROM counter_deltas
            ) parts WHERE starts_with(name, 'agreement.') GROUP BY 1, 2
        ), counted AS (
            SELECT r.project_id, 'agreement.' || s.version || '.'
                   || CASE WHEN p.confidence IS NULL THEN {UNKNOWN_BIN}
                      ELSE least(width_bucket(p.confidence, {_EDGES}), {UNKNOWN_BIN}) - 1 END
                   || '.' || coalesce(said.position::text, '-') || '.' || decided.position AS name,
                   count(*) AS n
            FROM reviews r
            JOIN label_schemas s ON s.id = r.label_schema_id
            LEFT JOIN predictions p ON p.id = r.prediction_id
            LEFT JOIN LATERAL (
                SELECT number - 1 AS position
                FROM jsonb_array_elements(s.definition->'labels')
                     WITH ORDINALITY AS l (each, number)
                WHERE each->>'name' = p.label
            ) said ON true
            LEFT JOIN LATERAL (
                SELECT number - 1 AS position
                FROM jsonb_array_elements(s.definition->'labels')
                     WITH ORDINALITY AS l (each, number)
                WHERE each->>'name' = r.label
            ) decided ON true
            WHERE r.tally IS NULL
            GROUP BY 1, 2
        )
        SELECT 'project ' || project_id || ' ' || coalesce(a.name, b.name) || ': '
               || coalesce(a.n, 0) || ' counted, ' || coalesce(b.n, 0) || ' in the counter' AS found
        FROM counted a FULL JOIN counter b USING (project_id, name)
        WHERE coalesce(a.n, 0) <> coalesce(b.n, 0)
    """,
    "counters of compared values equal a recount": """
        WITH counter AS (
            SELECT project_id, name, sum(value) AS n FROM (
                SELECT project_id, name, value FROM counter_totals
                UNION ALL SELECT project_id, name, delta FROM counter_deltas
            ) parts WHERE starts_with(name, 'compared.') GROUP BY 1, 2
        ), counted AS (
            SELECT r.project_id, t.name, sum(t.n::bigint) AS n
            FROM reviews r CROSS JOIN LATERAL jsonb_each_text(r.tally) AS t (name, n)
            GROUP BY 1, 2
        )
        SELECT 'project ' || project_id || ' ' || coalesce(a.name, b.name) || ': '
               || coalesce(a.n, 0) || ' counted, ' || coalesce(b.n, 0) || ' in the counter' AS found
        FROM counted a FULL JOIN counter b USING (project_id, name)
        WHERE coalesce(a.n, 0) <> coalesce(b.n, 0)
    """,
    "counters of cost equal what turns cost": """
        WITH counted AS (
            SELECT s.project_id, c.name, sum(c.n) AS n
            FROM spendings s CROSS JOIN LATERAL (VALUES
                ('cost.' || s.month, s.micros), ('cost.total', s.micros),
                ('cost.calls', s.calls), ('cost.labels', s.labels)
            ) AS c (name, n)
            GROUP BY 1, 2
        ), counter AS (
            SELECT project_id, name, sum(value) AS n FROM (
                SELECT project_id, name, value FROM counter_totals
                UNION ALL SELECT project_id, name, delta FROM counter_deltas
            ) parts WHERE starts_with(name, 'cost.') GROUP BY 1, 2
        )
        SELECT 'project ' || project_id || ' ' || coalesce(a.name, b.name) || ': '
               || coalesce(a.n, 0) || ' counted, ' || coalesce(b.n, 0) || ' in the counter' AS found
        FROM counted a FULL JOIN counter b USING (project_id, name)
        WHERE coalesce(a.n, 0) <> coalesce(b.n, 0)
    """,
    "what a prediction cost was spent": """
        SELECT p.item_id || ' cost ' || p.cost_micros AS found
        FROM predictions p
        WHERE p.cost_micros > 0 AND NOT EXISTS (
            SELECT 1 FROM spendings s
            WHERE s.project_id = p.project_id AND s.item_id = p.item_id
              AND s.micros = p.cost_micros AND NOT s.estimated
        )
    """,
    "a reservation has a live lease": """
        SELECT id || ' ' || state || ' holds ' || reserved_micros AS found
        FROM items WHERE reserved_micros IS NOT NULL AND state <> 'labeling'
    """,
    "what a budget reserves is what its leases hold": """
        SELECT 'project ' || coalesce(b.project_id, i.project_id) || ': '
               || coalesce(b.reserved_micros, 0) || ' reserved, ' || coalesce(i.held, 0) || ' held'
               AS found
        FROM budgets b FULL JOIN (
            SELECT project_id, sum(reserved_micros) AS held FROM items
            WHERE reserved_micros IS NOT NULL GROUP BY 1
        ) i USING (project_id)
        WHERE coalesce(b.reserved_micros, 0) <> coalesce(i.held, 0)
    """,
    "no reviewer decides an item twice in a round": """
        SELECT item_id || ' ' || reviewer AS found FROM reviews
        GROUP BY item_id, reviewer, round HAVING count(*) > 1
    """,
}


async def check_invariants(database_url: str) -> list[Violation]:
    """Every violated invariant of a database.

    Each check is one statement and so one snapshot; one snapshot for all would be held so long
    that the queue beside it could not be cleaned. It still reads every table: on a large database
    run it when little is going on.
    """
    violations = []
    connection = await psycopg.AsyncConnection.connect(
        database_url, application_name="secondlook-doctor", autocommit=True
    )
    async with connection:
        for invariant, query in CHECKS.items():
            counted = f"SELECT found, count(*) OVER () FROM ({query}) f LIMIT {_ROWS_NAMED}"
            cursor = await connection.execute(counted.encode())
            if found := await cursor.fetchall():
                rows = tuple(str(row) for row, _ in found)
                violations.append(Violation(invariant, found[0][1], rows))
    return violations
