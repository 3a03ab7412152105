"""Claiming items, and with them what a budget must hold for them, in one transaction.

A claim reserves before anything is sent, so that what is spent and what is reserved are together
never more than the limit, whoever else claims at that moment. A reservation lives with its item's
lease: whoever ends the lease gives it back.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg.rows import DictRow

from app.domain.budget import month_counter
from app.infra.db import Connection, Database, json_rows
from app.labeling import budget_queries
from app.labeling.call import Job
from app.labeling.exhaustion import note_exhausted
from app.labeling.plan import Returned
from app.labeling.reckoning import Reckoning
from app.labeling.record import Source, return_items


@dataclass(slots=True)
class Claims:
    """Claims of one drain.

    Attributes:
        database: where.
        source: whose answers there will be.
        reckoning: what they are going to cost.
        has_budget: whether the project had one when the drain began. Where that is not so any
            more nothing is claimed, and the next drain knows better.
        lease_seconds: how long a claim holds.
        short: whether the last claim wanted more money than was left just then. Some may come
            back when what is being asked costs less than was reserved.
        needed: what the item costs for which there was not enough, in micros.
    """

    database: Database
    source: Source
    reckoning: Reckoning
    has_budget: bool
    lease_seconds: float
    short: bool = False
    needed: int = 1

    async def take(self, statement: str, limit: int, *, trial: bool = False) -> list[Job]:
        """Claims up to so many due items.

        Args:
            statement: `queries.CLAIM` or `queries.CLAIM_SUSPECT`.
            limit: how many, >= 1.
            trial: for the one call that a broken endpoint may get; else it rests.
        """
        token = uuid.uuid4()
        asked = {
            "project_id": self.source.project_id,
            "endpoint": None if trial else self.source.endpoint,
            "token": token,
            "lease_seconds": self.lease_seconds,
            "limit": limit,
            "reserving": self.has_budget,
        }
        if self.has_budget:
            async with self.database.transaction() as connection:
                return await self._reserve(connection, statement, asked)
        return _jobs(await self.database.fetch_all(statement, asked), token)

    async def _reserve(
        self, connection: Connection, statement: str, asked: dict[str, Any]
    ) -> list[Job]:
        project = {"project_id": self.source.project_id}
        held = await _one(connection, budget_queries.HOLD, project)
        if held is None:
            return []
        limit = held["monthly_limit_micros"]
        if limit is None:
            # removed since the drain began
            return _jobs(await _all(connection, statement, asked), asked["token"])
        counter = {**project, "counter": month_counter(held["month"])}
        spent = await _one(connection, budget_queries.SPENT, counter)
        assert spent is not None
        free = limit - held["reserved_micros"] - spent["micros"]
        jobs: list[Job] = []
        beyond: list[Job] = []
        if free >= self.needed:
            # one more than can be paid for tells that there is one
            most = free // max(1, self.reckoning.micros({})) + 1
            asked["limit"] = min(asked["limit"], most)
            claimed = _jobs(await _all(connection, statement, asked), asked["token"])
            jobs, beyond = self._within(claimed, free)
        if beyond:
            self.needed = self.reckoning.micros(beyond[0].content)
            await return_items(
                connection,
                self.source.project_id,
                [Returned(job, job.attempts, 0.0, None) for job in beyond],
            )
        if jobs:
            rows = json_rows({"item_id": str(job.item_id), "micros": job.reserved} for job in jobs)
            reserved = {**project, "token": asked["token"], "rows": rows}
            await connection.execute(budget_queries.RESERVE, reserved, prepare=True)
        self.short = bool(beyond) or free < self.needed
        if self.short and not jobs and not held["reserved_micros"]:
            await note_exhausted(
                connection,
                self.source.project_id,
                labeler_id=self.source.labeler_id,
                month=held["month"],
            )
        return jobs

    def _within(self, jobs: Sequence[Job], free: int) -> tuple[list[Job], list[Job]]:
        """The first jobs that can be paid for, with what each is going to cost, and the others."""
        kept: list[Job] = []
        for job in jobs:
            micros = self.reckoning.micros(job.content)
            if micros > free:
                break
            free -= micros
            kept.append(replace(job, reserved=micros))
        return kept, list(jobs[len(kept) :])


def _jobs(rows: Sequence[DictRow], token: uuid.UUID) -> list[Job]:
    return [Job(row["id"], token, row["attempts"], row["content"]) for row in rows]


async def _all(connection: Connection, sql: str, parameters: dict[str, Any]) -> list[DictRow]:
    cursor = await connection.execute(sql, parameters, prepare=True)
    return await cursor.fetchall()


async def _one(connection: Connection, sql: str, parameters: dict[str, Any]) -> DictRow | None:
    cursor = await connection.execute(sql, parameters, prepare=True)
    return await cursor.fetchone()
