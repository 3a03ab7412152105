"""A small database in which everything has happened once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import psycopg

from app.access.bootstrap import ensure_first_key
from app.infra.db import Database
from app.infra.ids import Kind, from_wire
from app.review.service import ReviewService
from app.settings import Settings
from tests.support.api import Api, serve_api
from tests.support.labeling import LabelingSide
from tests.support.model_plays import Answer
from tests.support.model_server import ModelServer

_PLAYS = {
    "sure": [Answer(probabilities={"spam": 0.99, "ham": 0.006, "other thing": 0.004})],
    "torn": [Answer(probabilities={"spam": 0.4, "ham": 0.35, "other thing": 0.25})],
}


@dataclass(frozen=True)
class Project:
    """Items of a project by what became of them, and the project itself."""

    id: uuid.UUID
    pending: uuid.UUID
    labeling: uuid.UUID
    accepted: uuid.UUID
    waiting: uuid.UUID
    leased: uuid.UUID
    completed: uuid.UUID
    expired: uuid.UUID


async def populate(settings: Settings, model: ModelServer) -> tuple[Project, Project]:
    """Two projects with the same story; nothing is connected when this returns."""
    model.rules = _PLAYS
    key = await ensure_first_key(settings.database_url)
    assert key is not None
    async with (
        LabelingSide.open(settings) as labeling,
        serve_api(settings, admin_key=key) as api,
    ):
        first = await _tell(api, labeling, settings)
        second = await _tell(api, labeling, settings)
    return first, second


async def _tell(api: Api, labeling: LabelingSide, settings: Settings) -> Project:
    wire = await api.make_project(policy={"kind": "fixed_threshold", "threshold": 0.9})
    project = from_wire(Kind.PROJECT, wire)
    (accepted,) = await api.send_items(wire, ["sure"])
    await api.send_items(wire, [f"torn {n}" for n in range(4)])
    await labeling.drain(wire)
    gone, done, held = await api.claim(wire, 3)
    assert (await api.submit(done, "ham")).status_code == 200
    released = await api.http.post(
        f"/v1/assignments/{held['id']}/release", json={"lease_token": held["lease_token"]}
    )
    assert released.status_code == 204
    (held,) = [
        each for each in await api.claim(wire, 1) if each["item"]["id"] == held["item"]["id"]
    ]
    queue = (await api.get(f"/v1/projects/{wire}/queue"))["data"]
    pending, busy = await api.send_items(wire, ["later", "now"])
    with psycopg.connect(settings.database_url) as connection:
        connection.execute(
            "UPDATE assignments SET lease_expires_at = now() - interval '1 second' WHERE id = %s",
            (from_wire(Kind.ASSIGNMENT, gone["id"]),),
        )
        connection.execute(
            "UPDATE items SET state = 'labeling', lease_token = gen_random_uuid(), "
            "lease_expires_at = now() + interval '1 hour' WHERE id = %s",
            (from_wire(Kind.ITEM, busy),),
        )
        connection.execute(
            "INSERT INTO counter_deltas (project_id, name, delta) "
            "VALUES (%(id)s, 'items.pending', -1), (%(id)s, 'items.labeling', 1)",
            {"id": project},
        )
    assert await _expire(settings) == 1
    items = {
        "pending": pending,
        "labeling": busy,
        "accepted": accepted,
        "waiting": queue[0]["item_id"],
        "leased": held["item"]["id"],
        "completed": done["item"]["id"],
        "expired": gone["item"]["id"],
    }
    assert len(set(items.values())) == len(items)
    return Project(project, **{name: from_wire(Kind.ITEM, item) for name, item in items.items()})


async def _expire(settings: Settings) -> int:
    database = Database(settings.database_url, pool_size=1, application_name="secondlook-test")
    await database.open()
    try:
        return await ReviewService(database).expire()
    finally:
        await database.close()


def copy_row(table: str, where: str, **changes: str) -> str:
    """A statement that inserts a row once more, with an id of its own and these SQL values."""
    changed = {"id": "gen_random_uuid()"} | changes
    pairs = ", ".join(f"'{column}', {value}" for column, value in changed.items())
    return (
        f"INSERT INTO {table} SELECT (row).* FROM (SELECT jsonb_populate_record(t, "
        f"jsonb_build_object({pairs})) AS row FROM {table} t WHERE {where}) copies"
    )
