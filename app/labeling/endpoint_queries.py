"""The SQL of endpoints: when they rest, whether they are broken, who shares their rates."""

from __future__ import annotations

# The later of two pauses wins, and what was said for it last.
PAUSE = """
INSERT INTO endpoint_pauses (endpoint, paused_until, said)
VALUES (%(endpoint)s, now() + make_interval(secs => %(seconds)s), %(said)s)
ON CONFLICT (endpoint) DO UPDATE
SET paused_until = greatest(endpoint_pauses.paused_until, excluded.paused_until),
    said = coalesce(excluded.said, endpoint_pauses.said)
"""

# An endpoint that failed for everybody. A trial that failed says how long it rests now; who only
# now has seen enough failures does not cut short what others have found. `opened`: nobody had
# broken it before; a row that was there has a transaction that locked it.
BREAK = """
WITH broken AS (
    INSERT INTO endpoint_breakers (endpoint, delay) VALUES (%(endpoint)s, %(delay)s)
    ON CONFLICT (endpoint) DO UPDATE SET delay = greatest(endpoint_breakers.delay, excluded.delay)
    RETURNING xmax = 0 AS opened
), paused AS (
    INSERT INTO endpoint_pauses (endpoint, paused_until, said)
    VALUES (%(endpoint)s, now() + make_interval(secs => %(seconds)s), %(said)s)
    ON CONFLICT (endpoint) DO UPDATE
    SET paused_until = CASE WHEN %(trial)s THEN excluded.paused_until
                            ELSE greatest(endpoint_pauses.paused_until, excluded.paused_until) END,
        said = excluded.said
)
SELECT opened FROM broken
"""

# A row for who mended it.
MEND = """
WITH mended AS (
    DELETE FROM endpoint_breakers WHERE endpoint = %(endpoint)s RETURNING endpoint
), rested AS (
    DELETE FROM endpoint_pauses p USING mended WHERE p.endpoint = mended.endpoint
)
SELECT endpoint FROM mended
"""

# The right to the one trial of a broken endpoint that has rested, for so many seconds: a row, if
# it was had. Should whoever has it die, another has it afterwards.
TRY = """
INSERT INTO endpoint_pauses (endpoint, paused_until)
SELECT endpoint, now() + make_interval(secs => %(seconds)s)
FROM endpoint_breakers WHERE endpoint = %(endpoint)s
ON CONFLICT (endpoint) DO UPDATE SET paused_until = excluded.paused_until
WHERE endpoint_pauses.paused_until <= now()
RETURNING endpoint
"""

# There was nothing to try it with.
LEAVE = """
UPDATE endpoint_pauses SET paused_until = now() WHERE endpoint = %(endpoint)s
"""

# Tells that this worker asks an endpoint with limits; how many do.
SHARE_RATE = """
WITH seen AS (
    INSERT INTO rate_shares (endpoint, worker_id, seen_at)
    VALUES (%(endpoint)s, %(worker_id)s, now())
    ON CONFLICT (endpoint, worker_id) DO UPDATE SET seen_at = excluded.seen_at
)
SELECT 1 + count(*) AS shares FROM rate_shares
WHERE endpoint = %(endpoint)s AND worker_id <> %(worker_id)s
  AND seen_at > now() - make_interval(secs => %(seconds)s)
"""

# What nobody has asked of for an hour: pauses, broken endpoints, who shared a rate.
FORGET = """
WITH pauses AS (
    DELETE FROM endpoint_pauses WHERE paused_until < now() - interval '1 hour'
    RETURNING endpoint
), breakers AS (
    DELETE FROM endpoint_breakers b USING pauses WHERE b.endpoint = pauses.endpoint
)
DELETE FROM rate_shares WHERE seen_at < now() - interval '1 hour'
"""
