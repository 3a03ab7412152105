"""What the service knows of each row's item, kept on disk until the rows are written in order.

Pages come in the order of items, rows in the order of the file, and one text may stand in many
rows; a table on disk joins them in constant memory, however long the file is.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from app.commands.label_rows import Row, content_digest

_UPSERT = "INSERT OR REPLACE INTO answers VALUES (?, ?)"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an item, in the words of the output's columns.

    Attributes:
        digest: of the item's content; empty where the service took none in.
        label: the final label; the model's while the item waits for a person.
        model_label: what the model said; None where it gave no label.
        confidence: the model's, in its label; None where it is unknown.
        route: `accept` or `review`; None where it took none.
        reason: why it took its route, or why the confidence is unknown.
        decided_by: `model` or `person`; None while it waits.
        error: what went wrong, in a sentence.
    """

    digest: str = ""
    label: str | None = None
    model_label: str | None = None
    confidence: float | None = None
    route: str | None = None
    reason: str | None = None
    decided_by: str | None = None
    error: str | None = None

    def columns(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The values by the names of the output."""
        return {name: getattr(self, column) for column, name in names.items()}


def answer_of(item: Mapping[str, Any]) -> Answer:
    """The answer in an item of the API's listing."""
    confidence = item["confidence"] or {"value": None, "reason": None}
    unknown = confidence["reason"]
    final = item["final_label"]
    decider = {"accepted": "model", "completed": "person"}.get(item["state"])
    return Answer(
        digest=content_digest(item["content"]),
        label=item["label"] if final is None else final,
        model_label=item["label"],
        confidence=confidence["value"],
        route=item["route"],
        reason=unknown or item["route_reason"],
        decided_by=decider,
        error=item["last_error"] if unknown else None,
    )


class Answers:
    """Answers by external id. A context, since the table goes when it ends."""

    def __init__(self) -> None:
        # no name: a file of SQLite's own, which it removes
        self._table = sqlite3.connect("")
        self._table.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._table.close()

    def add(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Keeps a page of the listing; items without an external id are no rows of ours."""
        self._keep((item["external_id"], answer_of(item)) for item in items if item["external_id"])

    def refuse(self, key: str, fault: str) -> None:
        """Keeps that the service did not take an item in."""
        self._keep([(key, Answer(error=fault))])

    def of(self, row: Row) -> Answer | None:
        """The answer for a row; None where the service knows nothing of it."""
        if row.fault is not None:
            return Answer(error=row.fault)
        found = self._table.execute("SELECT answer FROM answers WHERE key = ?", (row.key,))
        kept = found.fetchone()
        if kept is None:
            return None
        answer = Answer(**json.loads(kept[0]))
        if answer.digest and answer.digest != row.digest:
            return Answer(
                error=f"the id {row.key} stands for another text, of an earlier row or run"
            )
        return answer

    def _keep(self, answers: Iterable[tuple[str, Answer]]) -> None:
        with self._table:
            self._table.executemany(
                _UPSERT, ((key, json.dumps(asdict(answer))) for key, answer in answers)
            )
