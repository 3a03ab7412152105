"""Five hundred people who watch a queue while some of them work it off.

The pollers are a process of their own, so that the claims are timed apart from them:

    python -m tests.soak.pollers --base-url … --key … --project … --pollers 500 --seconds 120
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import uvloop

from tests.faults.ledger import count_labelled, label_all
from tests.faults.support import Service, running_service
from tests.soak.figures import Part, percentile
from tests.soak.workers import SETTINGS
from tests.support import processes

_ANNOTATORS = 16
_EVERY_SECONDS = 2.0
_CLAIM_LIMIT_MS = 300.0


async def pollers(part: Part, directory: Path, scale: float) -> None:
    """What claims cost while five hundred poll."""
    seconds = max(15.0, 150 * scale)
    polling = max(50, round(500 * scale))
    settings = {**SETTINGS, "label_lease_seconds": 60.0, "call_deadline_seconds": 30.0}
    async with running_service(directory, settings=settings) as service:
        project = await service.api.make_project(policy={"kind": "review_all"})
        await service.api.send_items(project, [f"text {n}" for n in range(round(40 * seconds))])
        await label_all(service, project)
        alone, _ = await _annotate(service, project, seconds=seconds / 5)
        crowd = await _start_pollers(service, project, polling, seconds)
        claims, errors = await _annotate(service, project, seconds=seconds)
        said, _ = await crowd.communicate()
        seen = json.loads(said)
        await count_labelled(service)
        part.tell("pollers", polling)
        part.tell("polls a second", seen["polls"] / seconds)
        part.tell("poll p95", seen["p95_ms"], "ms")
        part.tell("claims", len(claims))
        part.tell("claim p95 with nobody polling", percentile(alone, 0.95), "ms")
        part.tell("claim p95", percentile(claims, 0.95), "ms", limit=_CLAIM_LIMIT_MS)
        wrong = sum(n for status, n in seen["statuses"].items() if status not in {"200", "304"})
        part.tell("errors", errors + wrong, limit=0)


async def _start_pollers(
    service: Service, project: str, count: int, seconds: float
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.pollers"),
        *("--base-url", service.api.base_url, "--key", service.api.admin_key),
        *("--project", project, "--pollers", str(count), "--seconds", str(seconds)),
        cwd=processes.ROOT,
        stdout=asyncio.subprocess.PIPE,
    )


async def _annotate(service: Service, project: str, *, seconds: float) -> tuple[list[float], int]:
    """Milliseconds of every claim, and how many requests went wrong."""
    ends = time.monotonic() + seconds
    took: list[float] = []
    errors = 0

    async def person(number: int) -> None:
        nonlocal errors
        rng = random.Random(number)
        headers = {
            "Authorization": f"Bearer {service.api.admin_key}",
            "Secondlook-Reviewer": f"annotator {number}",
        }
        async with processes.client(service.api.base_url, headers) as http:
            while time.monotonic() < ends:
                sent = time.monotonic()
                claim = await http.post(f"/v1/projects/{project}/claims", json={"limit": 1})
                took.append((time.monotonic() - sent) * 1000)
                assignments = claim.json()["data"] if claim.is_success else []
                errors += not claim.is_success
                for each in assignments:
                    verdict = {"lease_token": each["lease_token"], "label": "spam"}
                    answer = await http.post(f"/v1/assignments/{each['id']}/submit", json=verdict)
                    errors += not answer.is_success
                await asyncio.sleep(rng.uniform(0.25, 0.75))

    await asyncio.gather(*(person(number) for number in range(_ANNOTATORS)))
    return took, errors


async def _poll(base_url: str, key: str, project: str, *, count: int, seconds: float) -> None:
    """Polls by the ETag, each with its own jitter; prints what it saw as JSON."""
    statuses: Counter[int] = Counter()
    took: list[float] = []
    ends = time.monotonic() + seconds
    url = f"{base_url}/v1/projects/{project}/queue"
    connector = aiohttp.TCPConnector(limit=count)
    async with aiohttp.ClientSession(
        connector=connector, headers={"Authorization": f"Bearer {key}"}
    ) as session:

        async def one(number: int) -> None:
            rng = random.Random(number)
            known = ""
            while True:
                wait = _EVERY_SECONDS * rng.uniform(0.5, 1.5)
                if time.monotonic() + wait > ends:
                    return
                await asyncio.sleep(wait)
                sent = time.monotonic()
                try:
                    async with session.get(url, headers={"If-None-Match": known}) as answer:
                        await answer.read()
                        known = answer.headers.get("ETag", "")
                        statuses[answer.status] += 1
                except aiohttp.ClientError:
                    statuses[0] += 1
                took.append((time.monotonic() - sent) * 1000)

        await asyncio.gather(*(one(number) for number in range(count)))
    seen = {"polls": len(took), "p95_ms": percentile(took, 0.95), "statuses": statuses}
    sys.stdout.write(json.dumps(seen))


def main() -> None:
    """Polls as told."""
    parser = argparse.ArgumentParser()
    for name in ("base-url", "key", "project"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pollers", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    uvloop.run(
        _poll(given.base_url, given.key, given.project, count=given.pollers, seconds=given.seconds)
    )


if __name__ == "__main__":
    main()
