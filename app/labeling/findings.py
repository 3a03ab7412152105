"""What is known of endpoints: how they can be asked, found out once and kept in the database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from psycopg.types.json import Jsonb

from app.domain.kinds.base import LabelSchema
from app.infra.db import Database
from app.labeling.way import Way

AUTO: Final = "auto"
"""The source of a labeler that leaves it to the probe."""

_FIND: Final = "SELECT finding FROM endpoint_findings WHERE key = %(key)s"
_KEEP: Final = """
INSERT INTO endpoint_findings (key, finding) VALUES (%(key)s, %(finding)s)
ON CONFLICT (key) DO UPDATE SET finding = excluded.finding, probed_at = now()
"""
_FORGET: Final = "DELETE FROM endpoint_findings WHERE key = %(key)s"


@dataclass(frozen=True, slots=True)
class Try:
    """One way that was tried.

    Attributes:
        way: as it was asked in the end, without what the endpoint refused on the way.
        fit: whether it brought a label with a confidence.
        said: what came of it, for people.
    """

    way: Way
    fit: bool
    said: str

    def to_json(self) -> dict[str, Any]:
        return {"way": self.way.to_json(), "fit": self.fit, "said": self.said}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(Way.from_json(document["way"]), document["fit"], document["said"])


@dataclass(frozen=True, slots=True)
class Finding:
    """How an endpoint can be asked.

    Attributes:
        way: the best that fits.
        tries: in the order of trying; the last is of that way.
        served_model: as the endpoint named it; None where it did not.
    """

    way: Way
    tries: tuple[Try, ...] = ()
    served_model: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON that `from_json` reads and the database keeps."""
        return {
            "way": self.way.to_json(),
            "tries": [each.to_json() for each in self.tries],
            "served_model": self.served_model,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """A finding that `to_json` wrote."""
        return cls(
            Way.from_json(document["way"]),
            tuple(Try.from_json(each) for each in document["tries"]),
            document["served_model"],
        )


def finding_key(
    labeler: Mapping[str, Any], *, schema: LabelSchema, address: str, source: str
) -> bytes:
    """By what a finding is known: SHA-256 of the endpoint, the model and what it is asked for.

    Args:
        labeler: `model`, `api` and `parameters` of its row, of which the reasoning effort counts.
        schema: that its answers have.
        address: the endpoint's base URL, the service's own spelt out.
        source: the labeler's, or `auto` of what a probe found: a labeler that names its source is
            not asked another way than it says.
    """
    known_by = [
        address,
        labeler["model"],
        labeler["parameters"].get("reasoning_effort"),
        schema.KIND,
        schema.definition(),
        source,
        labeler["api"],
    ]
    return hashlib.sha256(json.dumps(known_by, sort_keys=True).encode()).digest()


async def find(database: Database, key: bytes) -> Finding | None:
    """What is known under a key."""
    row = await database.fetch_one(_FIND, {"key": key})
    return None if row is None else Finding.from_json(row["finding"])


async def keep(database: Database, key: bytes, finding: Finding) -> None:
    """Keeps a finding for everybody; of several at once the last stays, which is harmless."""
    async with database.connection() as connection:
        await connection.execute(_KEEP, {"key": key, "finding": Jsonb(finding.to_json())})


async def forget(database: Database, key: bytes) -> None:
    """Forgets what is known under a key, if anything is."""
    async with database.connection() as connection:
        await connection.execute(_FORGET, {"key": key})
