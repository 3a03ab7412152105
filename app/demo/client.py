"""What the demo does through the API: nothing here that a user could not do with curl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from app.client import ServiceClient

REVIEWERS = 8
_CLAIM = 10
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """An item with its known truth."""

    external_id: str
    text: str
    truth: str


class DemoClient:
    """One project of a running service."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._service = ServiceClient(http)
        self.project = ""

    async def make_project(self, labels: Sequence[str]) -> None:
        """A project in which people review everything, so that every confidence can be judged."""
        made = await self._service.post(
            "/v1/projects",
            {
                "name": "Companies by industry (demo)",
                "label_schema": {"kind": "single_choice", "labels": list(labels)},
                "labeler": {
                    "instructions": "The item describes a company. Choose its main industry."
                },
                "policy": {"kind": "review_all"},
            },
        )
        self.project = made["id"]

    async def send(self, samples: Sequence[Sample]) -> None:
        """Sends the items in one call."""
        rows = [{"external_id": each.external_id, "text": each.text} for each in samples]
        answer = await self._service.post(
            f"/v1/projects/{self.project}/items/bulk", {"items": rows}
        )
        if answer["failed"]:
            bad = next(row for row in answer["results"] if row["error"])
            raise RuntimeError(f"the service refused a sample item: {bad['error']['detail']}")

    async def watch_labelling(self) -> AsyncIterator[int]:
        """The number of labelled items, now and then, until all are."""
        while True:
            stats = await self._service.get(f"/v1/projects/{self.project}/stats")
            labelled = stats["total"] - stats["items"]["pending"] - stats["items"]["labeling"]
            yield labelled
            if labelled == stats["total"]:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def what_holds_it_up(self) -> str | None:
        """The last error of an item that waits for another try; None where there is none."""
        found = await self._service.get(
            f"/v1/projects/{self.project}/items", state="pending", limit=200
        )
        errors = (item["last_error"] for item in found["data"])
        return next((str(error) for error in errors if error is not None), None)

    async def least_certain(self, count: int) -> list[dict[str, Any]]:
        """The head of the queue with each item's text and alternatives."""
        queue = await self._service.get(f"/v1/projects/{self.project}/queue", limit=count)
        entries = []
        for entry in queue["data"]:
            item = await self._service.get(f"/v1/items/{entry['item_id']}")
            said = await self._service.get(f"/v1/items/{entry['item_id']}/predictions")
            score = said["data"][0]["score"] if said["data"] else None
            entries.append({**item, "alternatives": score["alternatives"] if score else []})
        return entries

    async def review_all(
        self, truth: Mapping[str, str], *, progress: Callable[[int], object]
    ) -> None:
        """Simulated reviewers claim and decide, by the known truth, until nothing waits."""

        async def work() -> None:
            while claimed := await self._claim():
                for each in claimed:
                    await self._service.post(
                        f"/v1/assignments/{each['id']}/submit",
                        {
                            "lease_token": each["lease_token"],
                            "label": truth[each["item"]["external_id"]],
                        },
                    )
                    progress(1)

        await asyncio.gather(*(work() for _ in range(REVIEWERS)))

    async def agreement(self) -> dict[str, Any]:
        """The agreement report."""
        return await self._service.get(f"/v1/projects/{self.project}/agreement")

    async def _claim(self) -> list[dict[str, Any]]:
        answer = await self._service.post(f"/v1/projects/{self.project}/claims", {"limit": _CLAIM})
        claimed: list[dict[str, Any]] = answer["data"]
        return claimed
