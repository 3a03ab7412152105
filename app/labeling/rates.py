"""Rates that all workers share: buckets in Redis, and a fair share of them while it is away.

One round trip asks for a batch: it settles what came of earlier calls, lowers the levels to what
the server said is left, takes as many calls as may go, and says how long the next must wait. The
time is Redis's own. Where Redis does not answer within half a second, each worker keeps to its
share of the limits: how many there are is counted in PostgreSQL.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence

import redis.asyncio
from redis.exceptions import RedisError

from app.domain.rates import Cost, Flow, Granted, Levels, Limits, Settlement
from app.infra.db import Database
from app.labeling import endpoint_queries

_SOCKET_TIMEOUT = 0.5
# for how long a Redis that did not answer is not asked again
_AWAY_SECONDS = 5.0
_BEAT_SECONDS = 5.0
SHARE_SECONDS = 15.0
"""A worker that was not seen for so long has no share."""
# longer than any bucket takes to fill, debts aside: a key that is gone is a full bucket
_KEPT_MILLISECONDS = 10 * 60 * 1000
_log = logging.getLogger(__name__)

# As `Levels.take`, which tests hold it against. Numbers travel as text: a reply has only integers.
TAKE = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local stored = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local passed = stored[3] and math.max(0, now - tonumber(stored[3])) or 0

local function filled(level, size, rate, settled, left)
    if size < 0 then return 0 end
    level = math.min(size, (level and tonumber(level) or size) + passed * rate - settled)
    if left >= 0 then level = math.min(level, left) end
    return level
end
local function wait(level, cost, size, rate)
    if size < 0 then return 0 end
    return math.max(0, (math.min(cost, size) - level) / rate)
end

local size_r, rate_r = tonumber(ARGV[1]), tonumber(ARGV[2])
local size_t, rate_t = tonumber(ARGV[3]), tonumber(ARGV[4])
local requests = filled(stored[1], size_r, rate_r, tonumber(ARGV[5]), tonumber(ARGV[7]))
local tokens = filled(stored[2], size_t, rate_t, tonumber(ARGV[6]), tonumber(ARGV[8]))
local count, waited = 0, 0
for i = 10, #ARGV, 2 do
    local r, t = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    waited = math.max(wait(requests, r, size_r, rate_r), wait(tokens, t, size_t, rate_t))
    if waited > 0 then break end
    count, requests, tokens = count + 1, requests - r, tokens - t
end
local function text(number) return string.format('%.17g', number) end
redis.call('HSET', KEYS[1], 'requests', text(requests), 'tokens', text(tokens), 'at', text(now))
redis.call('PEXPIRE', KEYS[1], ARGV[9])
return {count, text(waited), text(requests), text(tokens)}
"""


class SharedRates:
    """The buckets of all endpoints, as one process sees them; made and closed on its event loop."""

    def __init__(
        self, database: Database, redis_url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._worker_id = uuid.uuid4()
        self._clock = clock
        self._redis = redis.asyncio.Redis.from_url(
            redis_url,
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            # the fallback is quicker than a second try
            retry=None,
        )
        self._take = self._redis.register_script(TAKE)
        self._away_until = float("-inf")
        self._local: dict[str, Levels] = {}
        self._shares: dict[str, tuple[float, int]] = {}

    async def take(
        self, endpoint: str, costs: Sequence[Cost], *, limits: Limits, settled: Settlement
    ) -> Granted:
        """Takes what each of the costs is, in order, until one must wait.

        Args:
            endpoint: whose buckets; labelers with other limits draw from the same, each by its own.
            costs: of items' turns; none, to settle only.
            limits: of the labeler that asks.
            settled: what came of what was taken before.
        """
        shares = await self._shared_by(endpoint)
        if self._clock() >= self._away_until:
            try:
                granted = await self._ask(endpoint, costs, limits, settled)
            except (RedisError, OSError) as error:
                _log.warning("rates are kept without Redis: %s", type(error).__name__)
                self._away_until = self._clock() + _AWAY_SECONDS
            else:
                self._local.pop(endpoint, None)
                return granted
        return self._alone(endpoint, costs, limits, settled, shares)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(
        self, endpoint: str, costs: Sequence[Cost], limits: Limits, settled: Settlement
    ) -> Granted:
        flows = (Flow.of_requests(limits.requests), Flow.of_tokens(limits.tokens))
        buckets = [(flow.size, flow.rate) if flow else (-1, 1) for flow in flows]
        left = (settled.requests_left, settled.tokens_left)
        reply = await self._take(
            keys=[f"secondlook:rate:{endpoint}"],
            args=[
                *(number for bucket in buckets for number in bucket),
                settled.requests,
                settled.tokens,
                *(-1 if each is None else each for each in left),
                _KEPT_MILLISECONDS,
                *(number for cost in costs for number in (cost.requests, cost.tokens)),
            ],
        )
        count, wait, requests, tokens = reply
        return Granted(
            int(count),
            float(wait),
            None if flows[0] is None else float(requests),
            None if flows[1] is None else float(tokens),
        )

    def _alone(
        self,
        endpoint: str,
        costs: Sequence[Cost],
        limits: Limits,
        settled: Settlement,
        shares: int,
    ) -> Granted:
        """This worker's share, from a bucket that begins empty: the shared one may have been."""
        share = limits.shared_by(shares)
        now = self._clock()
        levels = self._local.get(endpoint) or Levels(0.0, 0.0, now)
        self._local[endpoint], granted = levels.take(costs, limits=share, settled=settled, now=now)
        return granted

    async def _shared_by(self, endpoint: str) -> int:
        """How many workers ask this endpoint, this one among them; looked up now and then."""
        seen_at, shares = self._shares.get(endpoint, (float("-inf"), 1))
        now = self._clock()
        if now < seen_at + _BEAT_SECONDS:
            return shares
        row = await self._database.fetch_one(
            endpoint_queries.SHARE_RATE,
            {"endpoint": endpoint, "worker_id": self._worker_id, "seconds": SHARE_SECONDS},
        )
        shares = 1 if row is None else row["shares"]
        self._shares[endpoint] = (now, shares)
        return shares
