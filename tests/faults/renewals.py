"""Rolling restarts from beginning to end, in both ways: short in the tests, long in a soak."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.reports.invariants import check_invariants
from tests.faults.rolling import Background, Load, api_program, under_load
from tests.faults.support import Service, running_service
from tests.support import processes
from tests.support.processes import Program

SETTINGS: dict[str, Any] = {
    "calls_in_flight": 8,
    "call_deadline_seconds": 30.0,
    # none runs out here: one that is lost is lost for good
    "label_lease_seconds": 600.0,
    "time_slice_seconds": 2.0,
    "sweep_seconds": 0.5,
}


async def renew_in_place(directory: Path, *, rolls: int) -> Load:
    """Two processes on one socket, renewed by SIGHUP; then a worker and the sweeper; so many times.

    What the clients saw, once nothing is found lost.
    """
    async with _slow_service(directory) as (service, background):
        port = processes.free_port()
        url = f"http://127.0.0.1:{port}"
        api = api_program(service.settings, directory, port=port, serving=2)
        try:
            api.start()
            await processes.until_answered(f"{url}/readyz")
            async with under_load(service, [url]) as load:
                for roll in range(rolls):
                    await load.goes_on()
                    before = api.children()
                    os.kill(api.pid, signal.SIGHUP)
                    await _until_renewed(api, roll + 1)
                    assert set(api.children()).isdisjoint(before)
                    await background.replace()
                await load.goes_on()
            await _check_nothing_is_lost(service, load)
            assert background.replaced == rolls
        finally:
            api.kill()
    return load


async def renew_hosts(directory: Path, *, rolls: int) -> Load:
    """Two hosts behind a balancer that follows `/readyz`: one after the other goes and comes.

    What the clients saw, once nothing is found lost.
    """
    async with _slow_service(directory) as (service, background):
        apis = {
            f"http://127.0.0.1:{port}": api_program(service.settings, directory, port=port)
            for port in (processes.free_port(), processes.free_port())
        }
        try:
            for api in apis.values():
                api.start()
            async with under_load(service, list(apis)) as load:
                for roll in range(rolls):
                    url, api = list(apis.items())[roll % len(apis)]
                    await load.goes_on()
                    api.ask_to_stop()
                    assert await api.ended() == 0
                    await background.replace()
                    api.start()
                    await load.backends.until_ready(url)
                await load.goes_on()
            await _check_nothing_is_lost(service, load)
            assert background.replaced == rolls
        finally:
            for api in apis.values():
                api.kill()
    return load


@asynccontextmanager
async def _slow_service(directory: Path) -> AsyncIterator[tuple[Service, Background]]:
    """A service whose model takes its time, with a worker and a sweeper that can be replaced."""
    async with running_service(directory, settings=SETTINGS) as service:
        service.model.latency = 0.3
        background = Background(service, directory)
        try:
            await background.start()
            yield service, background
        finally:
            background.kill()


async def _until_renewed(api: Program, times: int) -> None:
    await processes.until(lambda: api.said().count("all processes are new") == times)


async def _check_nothing_is_lost(service: Service, load: Load) -> None:
    """Every item labelled by one call that counted, whoever began it; every claim submitted."""
    assert load.failures == []
    assert load.held == set()
    await service.until_value(
        "SELECT count(*) FROM items WHERE state IN ('pending', 'labeling')", 0
    )
    stored = await service.rows(
        "SELECT i.external_id, i.losses, i.attempts, count(p.id) AS predictions "
        "FROM items i LEFT JOIN predictions p ON p.item_id = i.id GROUP BY i.id"
    )
    assert sorted(row["external_id"] for row in stored) == sorted(load.sent)
    assert {(row["losses"], row["attempts"], row["predictions"]) for row in stored} == {(0, 1, 1)}
    assert await service.value("SELECT count(*) FROM reviews") == load.answered["submit"]
    assert await service.value("SELECT count(*) FROM assignments WHERE state <> 'submitted'") == 0
    assert await check_invariants(service.settings.database_url) == []
