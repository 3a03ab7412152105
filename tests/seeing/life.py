"""A life with everything in it that could make a process talk."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from app.infra.ids import Kind, from_wire
from tests.seeing.support import CANARIES, Echo, Watched
from tests.support import processes
from tests.support.model_plays import FAULTS

ITEMS = 12
REVIEWER = {"Secondlook-Reviewer": CANARIES["reviewer"]}


@dataclass
class Memory:
    """What a life leaves behind.

    Attributes:
        project: with everything in it; its items went to people.
        items: ids of its good items, in order.
        while_away: /metrics of the API while the database was away.
        statuses: of the answers to requests that were meant to fail, by what was wrong.
        killed: the child of the worker that was killed.
    """

    project: str
    items: list[str]
    while_away: str = ""
    statuses: dict[str, int] = field(default_factory=dict)
    killed: int = 0


async def live(watched: Watched) -> Memory:
    """All of it, one after the other."""
    memory = await _label_and_review(watched)
    await _send_what_is_wrong(watched, memory)
    await _let_the_model_fail(watched, memory)
    await _crash(watched, memory)
    memory.killed = await _kill_a_child(watched, memory.project)
    await _take_the_database_away(watched, memory)
    return memory


def _item(n: int, text: str = "") -> dict[str, Any]:
    return {
        "external_id": f"{CANARIES['external id']}-{n}-{text}",
        "text": f"{CANARIES['text']} {text} {n}",
        "metadata": {"note": CANARIES["metadata"], "secret": CANARIES["webhook secret"]},
    }


async def _send(watched: Watched, project: str, rows: list[dict[str, Any]]) -> list[str]:
    path = f"/v1/projects/{project}/items/bulk"
    answer = await watched.client.http.post(path, json={"items": rows})
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["results"]]


async def _until_state(watched: Watched, project: str, state: str, count: int) -> None:
    async with asyncio.timeout(processes.PATIENCE):
        while True:
            stats = await watched.client.get(f"/v1/projects/{project}/stats")
            if stats["items"][state] >= count:
                return
            await asyncio.sleep(0.1)


async def _label_and_review(watched: Watched) -> Memory:
    project = await watched.client.make_project(labeler={"instructions": CANARIES["instructions"]})
    items = await _send(watched, project, [_item(n) for n in range(ITEMS)])
    await _until_state(watched, project, "in_review", ITEMS)
    path = f"/v1/projects/{project}"
    await watched.client.get(f"{path}/items", external_id=f"{CANARIES['external id']}-0-")
    http = watched.client.http
    claimed = await http.post(f"{path}/claims", json={"limit": 3}, headers=REVIEWER)
    first, second, third = claimed.json()["data"]
    for assignment, label in ((first, first["item"]["label"]), (second, "spam")):
        verdict = {
            "lease_token": assignment["lease_token"],
            "label": label,
            "comment": CANARIES["comment"],
        }
        path = f"/v1/assignments/{assignment['id']}/submit"
        answer = await http.post(path, json=verdict, headers=REVIEWER)
        assert answer.status_code == 200, answer.text
    answer = await http.post(
        f"/v1/assignments/{third['id']}/release",
        json={"lease_token": third["lease_token"]},
        headers=REVIEWER,
    )
    assert answer.status_code == 204, answer.text
    return Memory(project, items)


async def _send_what_is_wrong(watched: Watched, memory: Memory) -> None:
    http, path = watched.client.http, f"/v1/projects/{memory.project}"
    wrong = {**_item(0), "text": [CANARIES["text"]], "more": CANARIES["webhook secret"]}
    requests: dict[str, Callable[[], Any]] = {
        "fields": lambda: http.post(f"{path}/items", json=wrong),
        "no json": lambda: http.post(
            f"{path}/items",
            content=b'{"text": "' + CANARIES["text"].encode() + b'", ',
            headers={"Content-Type": "application/json"},
        ),
        "too large": lambda: http.post(
            f"{path}/items", json={"text": CANARIES["text"] * 1_200_000}
        ),
        "query": lambda: http.get(
            f"{path}/items", params={"limit": CANARIES["query"], "cursor": CANARIES["query"]}
        ),
        "unknown query": lambda: http.get(f"{path}/items", params={"q": CANARIES["query"]}),
        "conflict": lambda: http.post(f"{path}/items", json={**_item(0), "text": "another"}),
        "key": lambda: http.get(
            path, headers={"Authorization": f"Bearer {watched.client.admin_key[:-1]}x"}
        ),
        "path": lambda: http.get(f"/v1/{CANARIES['query']}"),
        "method": lambda: http.request("TRACE", path),
    }
    for name, request in requests.items():
        memory.statuses[name] = (await request()).status_code


async def _let_the_model_fail(watched: Watched, memory: Memory) -> None:
    watched.model.rules = {
        "echo-500": [Echo(status=500, content_type="application/json")],
        "echo-400": [Echo(status=400, content_type="application/json")],
        "echo-html": [Echo(status=200, content_type="text/html")],
        "echo-json": [Echo(status=200, content_type="application/json")],
        "reset": [FAULTS["reset"]],
        "hang": [FAULTS["hang"]],
        "refused": [FAULTS["refusal"]],
        "no-logprobs": [FAULTS["null_logprobs"]],
    }
    names = list(watched.model.rules)
    await _send(watched, memory.project, [_item(n, name) for n, name in enumerate(names)])
    await _until_state(watched, memory.project, "in_review", ITEMS - 2 + len(names))


async def _crash(watched: Watched, memory: Memory) -> None:
    """What the database holds is not what any code of ours wrote, or not what it takes."""
    http = watched.client.http
    project = await watched.client.make_project()
    await watched.client.claim(memory.project)
    spoilt = await watched.client.make_project()
    await _send(watched, spoilt, [_item(0, "spoilt")])
    await _until_state(watched, spoilt, "in_review", 1)
    (assignment,) = await watched.client.claim(spoilt)
    url = watched.settings.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as sql:
        await sql.execute("ALTER TABLE label_schemas DISABLE TRIGGER never_updated")
        await sql.execute(
            "UPDATE label_schemas SET definition = %s WHERE project_id = %s",
            (Jsonb({"labels": [CANARIES["crash"]] * 2}), from_wire(Kind.PROJECT, spoilt)),
        )
        await sql.execute("ALTER TABLE policies DISABLE TRIGGER never_updated")
        await sql.execute(
            "UPDATE policies SET document = %s WHERE project_id = %s",
            (Jsonb({"kind": CANARIES["crash"]}), from_wire(Kind.PROJECT, project)),
        )
        await sql.execute(
            "ALTER TABLE item_payloads ADD CONSTRAINT no_poison "
            "CHECK (content::text NOT LIKE '%poison%') NOT VALID"
        )
    # no code of ours wrote the schema that the verdict must be of
    memory.statuses["crash"] = (await watched.client.submit(assignment, "spam")).status_code
    assert (await http.delete(f"/v1/projects/{spoilt}")).status_code == 204
    refused = await http.post(f"/v1/projects/{memory.project}/items", json=_item(0, "poison"))
    memory.statuses["refused by the database"] = refused.status_code
    # a result that can't be routed, in a worker
    await _send(watched, project, [_item(0, CANARIES["crash"])])
    async with asyncio.timeout(processes.PATIENCE):
        while "could not be stored" not in watched.worker.said():  # noqa: ASYNC110  # polled
            await asyncio.sleep(0.1)
    # not again and again while the rest is looked at
    assert (await http.delete(f"/v1/projects/{project}")).status_code == 204


async def _kill_a_child(watched: Watched, project: str) -> int:
    """kill -9 in the middle of calls; others take its items."""
    watched.model.rules = {"killed": [FAULTS["hang"], *watched.model.default]}
    before = watched.model.count
    await _send(watched, project, [_item(n, "killed") for n in range(4)])
    async with asyncio.timeout(processes.PATIENCE):
        await watched.model.wait_for_calls(before + 4)
    (holder, *_) = await _busy_children(watched)
    os.kill(holder, signal.SIGKILL)
    return holder


async def _busy_children(watched: Watched) -> list[int]:
    """Children of the worker that have connections to the model server."""
    import psutil  # noqa: PLC0415

    found = []
    for pid in watched.worker.children():
        with suppress(psutil.Error):
            connections = psutil.Process(pid).net_connections("tcp")
            if any(each.raddr and each.raddr.port == watched.model.port for each in connections):
                found.append(pid)
    return found


async def _take_the_database_away(watched: Watched, memory: Memory) -> None:
    await asyncio.to_thread(watched.engines.postgres.kill)
    answer = await watched.client.http.post(
        f"/v1/projects/{memory.project}/items", json=_item(0, "away")
    )
    memory.statuses["database away"] = answer.status_code
    memory.while_away = await _until_told(watched, "secondlook_database_up 0.0")
    await asyncio.to_thread(watched.engines.postgres.start)
    await _until_told(watched, "secondlook_database_up 1.0")
    await _until_told(watched, "secondlook_sweeper_active 1.0")
    await _until_state(watched, memory.project, "in_review", ITEMS - 2 + 8 + 4)


async def _until_told(watched: Watched, line: str) -> str:
    async with asyncio.timeout(processes.PATIENCE):
        while line not in (told := await watched.exposition("api")):  # noqa: ASYNC110  # polled
            await asyncio.sleep(0.2)
    return told
