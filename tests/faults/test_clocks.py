"""Application clocks an hour wrong: only the database's counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.infra.ids import Kind, from_wire
from app.reports.invariants import check_invariants
from tests.faults.clocks import Wrong, work_through, wrong_clocks
from tests.faults.support import running_service
from tests.support import processes

pytestmark = pytest.mark.timeout(300)

SETTINGS = {
    "calls_in_flight": 8,
    "call_deadline_seconds": 60.0,
    "label_lease_seconds": 300.0,
    "sweep_seconds": 0.2,
}


@pytest.fixture(scope="module")
async def wrong(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wrong]:
    directory = tmp_path_factory.mktemp("service")
    async with (
        running_service(directory, settings=SETTINGS) as service,
        wrong_clocks(service, directory) as made,
    ):
        yield made
        assert await check_invariants(service.settings.database_url) == []


class TestClocksAnHourWrong:
    async def test_end_no_lease_early(self, wrong: Wrong) -> None:
        wrong.service.model.latency = 0.2
        assert await work_through(wrong, items=200) == 0

    async def test_keep_no_lease_alive_that_is_over(self, wrong: Wrong) -> None:
        project = await wrong.service.api.make_project(policy={"kind": "review_all"})
        await wrong.service.api.send_items(project, ["text"])
        await wrong.service.until_value(
            "SELECT count(*) FROM review_queue WHERE project_id = %(project)s",
            1,
            project=from_wire(Kind.PROJECT, project),
        )
        for one, other in ((wrong.ahead, wrong.behind), (wrong.behind, wrong.ahead)):
            claims = f"/v1/projects/{project}/claims"
            (lost,) = (await one.post(claims, json={})).json()["data"]
            await wrong.service.rows(
                "UPDATE assignments SET lease_expires_at = now() WHERE id = %(id)s",
                id=from_wire(Kind.ASSIGNMENT, lost["id"]),
            )
            async with asyncio.timeout(processes.PATIENCE):
                # a sweeper may be just freeing it
                while not (taken := (await other.post(claims, json={})).json()["data"]):  # noqa: ASYNC110  # polled
                    await asyncio.sleep(0.02)
            (taken,) = taken
            assert taken["item"]["id"] == lost["item"]["id"]
            late = await one.post(
                f"/v1/assignments/{lost['id']}/submit",
                json={"lease_token": lost["lease_token"], "label": "spam"},
            )
            assert (late.status_code, late.json()["code"]) == (409, "lease_held_by_another")
            given = await other.post(
                f"/v1/assignments/{taken['id']}/release",
                json={"lease_token": taken["lease_token"]},
            )
            assert given.status_code == 204
