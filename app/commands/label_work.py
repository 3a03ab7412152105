"""Sending rows and watching them being labelled."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.client import ServiceClient
from app.commands.label_answers import Answers
from app.commands.label_rows import Row
from app.commands.label_trouble import Standing, StoppedError, Trouble, View, hinted

MAX_ROWS = 1000
MAX_BYTES = 4 * 1024 * 1024
TRIAL_ROWS = 8
_POLL_SECONDS = 0.3
_ENOUGH = 20
_LOOKED_AT = 200
# of a large backlog only few were tried before a dead endpoint was left alone
_WAITING_LOOKED_AT = 1000


@dataclass(slots=True)
class Done:
    """What a run did: items that are new in the service, and the seconds it took to label them."""

    created: int = 0
    seconds: float = 0.0


class Work:
    """The rows of one file in one project of a service.

    Args:
        service: whose.
        project: its id.
        rows: all rows, once; those with a fault are passed over.
        total: how many there are to send.
        answers: learns what became of each item.
        give_up_after: seconds without a single label while the model fails; 0 is never.
        view: where it is shown.
    """

    def __init__(
        self,
        service: ServiceClient,
        project: str,
        *,
        rows: Iterator[Row],
        total: int,
        answers: Answers,
        give_up_after: float,
        view: View,
    ) -> None:
        self._service = service
        self._path = f"/v1/projects/{project}"
        self._chunks = _Chunks(row for row in rows if row.fault is None)
        self._left = total
        self._answers = answers
        self._view = view
        self._trouble = Trouble(self._errors, give_up_after=give_up_after, view=view)
        self._done = Done()
        self._warned = False

    async def run(self) -> Done:
        """Sends what is not there yet and waits until everything is labelled.

        A few rows go first, and the others only when the model has labelled one of them: a wrong
        key costs a few rows their label, not a whole file.

        Raises:
            StoppedError: the model gives no labels.
            ServiceError: the service refused, or is away.
        """
        began = time.monotonic()
        before = (await self._stats()).labelled
        if not await self._any_label():
            await self._trial()
        sending = asyncio.create_task(self._send_all())
        try:
            while True:
                sent = sending.done()
                if sent:
                    sending.result()
                standing = await self._stats()
                self._view.show(standing)
                if sent and standing.labelled == standing.of:
                    break
                await self._trouble.look(standing)
                await self._warn_if_unknown(standing.labelled - before)
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            sending.cancel()
        await self._fetch()
        self._done.seconds = time.monotonic() - began
        return self._done

    async def _trial(self) -> None:
        while True:
            chunk = self._chunks.take(TRIAL_ROWS)
            if not chunk:
                return
            if await self._send(chunk):
                break
        while not await self._any_label():
            standing = await self._stats()
            self._view.show(standing)
            waiting = standing.of - self._left - standing.labelled
            if not waiting:
                # looked at once more: it may have come between the two questions
                if await self._any_label():
                    return
                raise await self._nothing_usable()
            await self._trouble.look(standing)
            await asyncio.sleep(_POLL_SECONDS)

    async def _send_all(self) -> None:
        while chunk := self._chunks.take(MAX_ROWS):
            await self._send(chunk)

    async def _send(self, chunk: list[Row]) -> int:
        body = b'{"items":[' + b",".join(row.body for row in chunk) + b"]}"
        answer = await self._service.post(f"{self._path}/items/bulk", body, repeatable=True)
        for row, result in zip(chunk, answer["results"], strict=True):
            # a conflict has the same text, or is told when the rows are written
            if result["status"] == "invalid":
                self._answers.refuse(row.key, result["error"]["detail"])
        created: int = answer["created"]
        self._done.created += created
        self._left -= len(chunk)
        return created

    async def _stats(self) -> Standing:
        stats = await self._service.get(f"{self._path}/stats")
        states = stats["items"]
        return Standing(
            labelled=stats["total"] - states["pending"] - states["labeling"],
            of=stats["total"] + self._left,
            held=states["labeling"],
            accepted=states["accepted"],
            for_people=states["in_review"] + states["completed"],
            rate=stats["labels_per_second"],
        )

    async def _items(self, **filters: Any) -> list[dict[str, Any]]:
        page = await self._service.get(f"{self._path}/items", **filters)
        items: list[dict[str, Any]] = page["data"]
        return items

    async def _any_label(self) -> bool:
        if await self._items(min_confidence=0, limit=1):
            return True
        unknown = await self._items(confidence_unknown="true", limit=_LOOKED_AT)
        return any(item["label"] for item in unknown)

    async def _errors(self) -> list[str]:
        """Why items that wait for another try wait."""
        found = await self._items(state="pending", limit=_WAITING_LOOKED_AT)
        return [item["last_error"] for item in found if item["last_error"]]

    async def _nothing_usable(self) -> StoppedError:
        unknown = await self._items(confidence_unknown="true", limit=_LOOKED_AT)
        last = str(unknown[-1]["last_error"]).rstrip(".")
        return StoppedError(
            f"the model gave none of the first {len(unknown)} rows a label: {hinted(last)} "
            "These wait for people; the others were not sent."
        )

    async def _warn_if_unknown(self, labelled: int) -> None:
        if self._warned or labelled < _ENOUGH:
            return
        self._warned = True
        if await self._items(min_confidence=0, limit=1):
            return
        unknown = await self._items(confidence_unknown="true", limit=_LOOKED_AT)
        reasons = Counter(item["confidence"]["reason"] for item in unknown)
        self._view.tell(
            f"No row has a confidence so far ({_counted(reasons)}), so all of them go to people. "
            "Ctrl-C stops it; what is labelled stays."
        )

    async def _fetch(self) -> None:
        limit = self._chunks.page
        async for page in self._service.pages(f"{self._path}/items", limit=limit):
            self._answers.add(page)


class _Chunks:
    """Rows by the thousand, or by what fits into a request.

    Attributes:
        page: how many items a page may have to be about as large as a request.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._kept: Row | None = None
        self.page = MAX_ROWS

    def take(self, most: int) -> list[Row]:
        taken: list[Row] = []
        size = 0
        while len(taken) < most:
            row = self._kept or next(self._rows, None)
            self._kept = None
            if row is None:
                break
            if taken and size + len(row.body) > MAX_BYTES:
                self._kept = row
                self.page = min(self.page, len(taken))
                break
            taken.append(row)
            size += len(row.body)
        return taken


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
