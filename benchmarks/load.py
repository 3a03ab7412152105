"""The load generator: a process of its own, so that it does not share the service's event loop.

    python -m benchmarks.load review --base-url … --key … --project … --clients 32 --seconds 15

Prints one JSON object. Bounded by its seconds; talks to loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
import uvloop

from benchmarks.measure import percentile

Step = Callable[[aiohttp.ClientSession, int], Awaitable[bool]]


async def run(step: Step, *, clients: int, seconds: float, key: str) -> dict[str, float]:
    """Runs a step again and again on every client.

    Its rate, its latencies in milliseconds, and what this process used: a load generator near one
    core measures itself.
    """
    took: list[float] = []
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        await step(session, 0)
        began, cpu = time.perf_counter(), time.process_time()
        ends = began + seconds

        async def client(number: int) -> None:
            while time.perf_counter() < ends:
                started = time.perf_counter()
                if not await step(session, number):
                    return
                took.append((time.perf_counter() - started) * 1000)

        await asyncio.gather(*(client(number) for number in range(clients)))
        elapsed, spent = time.perf_counter() - began, time.process_time() - cpu
    return {
        "rate": len(took) / elapsed,
        "p50": percentile(took, 0.5),
        "p99": percentile(took, 0.99),
        "count": len(took),
        "cpu_ms": spent * 1000 / max(1, len(took)),
        "cores": spent / elapsed,
    }


def review_step(base_url: str, project: str) -> Step:
    """Claim one item and submit a verdict."""

    async def step(session: aiohttp.ClientSession, number: int) -> bool:
        named = {"Secondlook-Reviewer": f"reviewer-{number}"}
        claims = f"{base_url}/v1/projects/{project}/claims"
        async with session.post(claims, data=b'{"limit":1}', headers=named) as answer:
            answer.raise_for_status()
            claimed = json.loads(await answer.read())["data"]
        if not claimed:
            return False
        assignment = claimed[0]
        body = json.dumps({"lease_token": assignment["lease_token"], "label": "label 2"})
        submit = f"{base_url}/v1/assignments/{assignment['id']}/submit"
        async with session.post(submit, data=body, headers=named) as answer:
            answer.raise_for_status()
            await answer.read()
        return True

    return step


def claim_step(base_url: str, project: str) -> Step:
    """Claim one item and leave it leased."""

    async def step(session: aiohttp.ClientSession, number: int) -> bool:
        named = {"Secondlook-Reviewer": f"claimer-{number}"}
        claims = f"{base_url}/v1/projects/{project}/claims"
        async with session.post(claims, data=b'{"limit":1}', headers=named) as answer:
            answer.raise_for_status()
            return bool(json.loads(await answer.read())["data"])

    return step


def poll_step(base_url: str, project: str) -> Step:
    """Poll an unchanged queue with its ETag."""
    known = ""

    async def step(session: aiohttp.ClientSession, _number: int) -> bool:
        nonlocal known
        headers = {"If-None-Match": known} if known else {}
        url = f"{base_url}/v1/projects/{project}/queue"
        async with session.get(url, headers=headers) as answer:
            await answer.read()
            known = answer.headers["ETag"]
            return answer.status == 304 or not headers

    return step


def bare_step(base_url: str, _project: str) -> Step:
    """A route that does nothing."""

    async def step(session: aiohttp.ClientSession, _number: int) -> bool:
        async with session.get(f"{base_url}/livez") as answer:
            await answer.read()
            return answer.status == 200

    return step


def agreement_step(base_url: str, project: str) -> Step:
    """Read the agreement statistics."""

    async def step(session: aiohttp.ClientSession, _number: int) -> bool:
        async with session.get(f"{base_url}/v1/projects/{project}/agreement") as answer:
            answer.raise_for_status()
            await answer.read()
        return True

    return step


STEPS = {
    "agreement": agreement_step,
    "bare": bare_step,
    "claim": claim_step,
    "poll": poll_step,
    "review": review_step,
}


def main() -> None:
    """Runs one step as told and prints what it measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=sorted(STEPS))
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--project", default="")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    if urlsplit(given.base_url).hostname != "127.0.0.1":
        parser.error("load goes to loopback only")
    step = STEPS[given.step](given.base_url, given.project)
    work = run(step, clients=given.clients, seconds=min(given.seconds, 120.0), key=given.key)
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main()
