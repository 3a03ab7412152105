"""Rows of labelling: worker processes against the scripted model server."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure import Row
from benchmarks.service import Measured, joint_rate


def label_calls(service: Measured, *, model_url: str, items: int) -> Row:
    """Labels a second end to end, 200 calls in flight of 200 ms, one worker process.

    The limit is bare aiohttp against the same server.
    """
    with service.meter.block("bare calls", commits=False):
        bare = _bare_calls(service, model_url, items, processes=1)
    with service.meter.block("labels", commits=True) as block:
        done = _labels(service, items, processes=1)
    return Row(
        key="label_calls",
        value=joint_rate(done),
        unit="labels/s",
        limit=joint_rate(bare),
        goal="at least 400/s, at most 2.5 ms CPU a label",
        figures={
            "CPU ms a label": done[0]["cpu_ms"],
            "CPU ms of a bare call": bare[0]["cpu_ms"],
            "postgres CPU ms a label": block.cpu_ms("postgres", items),
            "model server CPU ms a label": block.cpu_ms("model server", items),
        },
    )


def label_scale(service: Measured, *, model_url: str, items: int) -> Row:
    """Labels a second of two worker processes by those of one; the limit is bare aiohttp's."""
    bare, labels = {}, {}
    for processes in (1, 2):
        count = processes * items
        with service.meter.block(f"bare calls, {processes}", commits=False):
            bare[processes] = joint_rate(
                _bare_calls(service, model_url, items, processes=processes)
            )
        with service.meter.block(f"labels, {processes}", commits=True):
            labels[processes] = joint_rate(_labels(service, count, processes=processes))
    return Row(
        key="label_scale",
        value=labels[2] / labels[1],
        unit="of one worker",
        limit=bare[2] / bare[1],
        goal="at least 1.7 where cores allow",
        figures={
            "labels/s of one": labels[1],
            "labels/s of two": labels[2],
            "bare calls/s of one": bare[1],
            "bare calls/s of two": bare[2],
        },
    )


def _bare_calls(
    service: Measured, model_url: str, items: int, *, processes: int
) -> Sequence[dict[str, float]]:
    command = ("benchmarks.raw_calls", "--url", model_url, "--count", str(items))
    return service.run(*[command] * processes)


def _labels(service: Measured, items: int, *, processes: int) -> Sequence[dict[str, float]]:
    project = service.make_project()
    for begin in range(0, items, 1000):
        rows = [{"text": f"text {n}"} for n in range(begin, min(items, begin + 1000))]
        service.call("POST", f"/v1/projects/{project}/items/bulk", {"items": rows})
    done = service.run(*[("benchmarks.drain", "--project", project)] * processes)
    labelled = sum(each["count"] for each in done)
    if labelled != items:
        raise RuntimeError(f"{labelled:.0f} of {items} items were labelled")
    return done
