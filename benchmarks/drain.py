"""One worker process without Celery around it: drains a project and says how long it took."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from app.infra.ids import Kind, from_wire
from app.labeling.assembly import open_labeling
from app.settings import load_settings


async def drain(project: str) -> dict[str, float]:
    """When it ran, what it labelled, and CPU milliseconds a label of this process."""
    settings = load_settings(
        calls_in_flight=200, time_slice_seconds=120.0, label_lease_seconds=200.0
    )
    labeling = await open_labeling(settings, application_name="secondlook-bench")
    began, cpu = time.monotonic(), time.process_time()
    result = await labeling.drainer.drain(from_wire(Kind.PROJECT, project))
    ended, spent = time.monotonic(), time.process_time() - cpu
    await labeling.close()
    count = result.settled
    return {"began": began, "ended": ended, "count": count, "cpu_ms": spent * 1000 / max(1, count)}


def main() -> None:
    """Prints what it measured as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    print(json.dumps(asyncio.run(drain(parser.parse_args().project))))


if __name__ == "__main__":
    main()
