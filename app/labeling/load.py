"""What a drain knows of its project: whose answers these will be, what is asked, and where."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from app.domain.confidence import ConfidenceSource
from app.domain.kinds.base import LabelSchema
from app.infra.db import Database, describe
from app.labeling import findings, queries
from app.labeling.endpoint import ModelClient, ModelClients
from app.labeling.findings import AUTO, Finding, finding_key
from app.labeling.probing import ProbeFailed, Prober
from app.labeling.question import Question, build_question
from app.labeling.record import Source
from app.labeling.way import Api, Way
from app.projects.schema_cache import read_schema

_RESTS = """
SELECT 1 FROM endpoint_pauses WHERE endpoint = %(endpoint)s AND paused_until > now()
"""
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class LoadedProject:
    """A project as a drain needs it; its versions never change while it runs.

    Attributes:
        source: provenance of every prediction.
        question: what is asked, by the newest way that is known.
        client: of the endpoint.
        limits: the labeler's, as stored; None where it has none.
        prices: the labeler's, as stored; None where it has none.
        has_budget: whether what it spends in a month is limited.
        broken_delay: seconds for which the endpoint rested last, where it is broken; else None.
    """

    source: Source
    question: Question
    client: ModelClient
    limits: Mapping[str, Any] | None
    prices: Mapping[str, Any] | None
    has_budget: bool
    broken_delay: float | None


async def load_project(
    database: Database,
    clients: ModelClients,
    project_id: uuid.UUID,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> LoadedProject | None:
    """The project; None where it is gone, or where its labels come from elsewhere.

    A labeler that leaves its source to the service is probed here, by whoever comes first; a probe
    under way is given up when `stopping` says so.
    """
    row = await database.fetch_one(queries.LOAD_PROJECT, {"project_id": project_id})
    if row is None or row["source"] == ConfidenceSource.EXTERNAL.value:
        return None
    schema = read_schema(row["kind"], row["definition"])
    address = clients.address(row["base_url"])
    key = finding_key(row, schema=schema, address=address, source=row["source"])
    prober = Prober(database, clients, stopping=stopping)
    way = await _way(database, prober, row, schema=schema, key=key)
    project = LoadedProject(
        source=Source(
            project_id=project_id,
            labeler_id=row["labeler_id"],
            label_schema_id=row["label_schema_id"],
            endpoint=row["endpoint"],
            shown=_shown(row["model"], address),
        ),
        question=build_question(row, schema=schema, way=way),
        client=clients.get(row["base_url"]),
        limits=row["limits"],
        prices=row["prices"],
        has_budget=row["has_budget"],
        broken_delay=row["broken_delay"],
    )

    async def learned(newer: Way) -> None:
        if project.question.way == newer:
            return
        project.question = project.question.by(newer)
        try:
            known = await findings.find(database, key) or Finding(newer)
            await findings.keep(database, key, replace(known, way=newer))
        except Exception as error:  # noqa: BLE001  # the label is had; it can be learned again
            _log.warning("how an endpoint is asked could not be kept: %s", describe(error))

    project.question = replace(project.question, learned=learned)
    return project


def _shown(model: str, address: str) -> str:
    """An endpoint for people: an address may hold a password, its host does not."""
    return f"{model} at {urlsplit(address).netloc.rpartition('@')[2]}"


async def _way(
    database: Database,
    prober: Prober,
    row: Mapping[str, Any],
    *,
    schema: LabelSchema,
    key: bytes,
) -> Way:
    known = await findings.find(database, key)
    if known is not None:
        return known.way
    if row["source"] != AUTO:
        named = Way.named(row["source"], row["api"])
        if named.api is not Api.DECISIONS or schema.decision_questions() is not None:
            return named
        _log.warning("decisions do not fit the schema: labels get what chat completions tell")
        return Way()
    resting = await database.fetch_one(_RESTS, {"endpoint": row["endpoint"]}) is not None
    if resting or row["broken_delay"] is not None:
        # nobody may call it, so nothing is claimed either
        return Way()
    found = await prober.probe(row, schema=schema)
    if isinstance(found, ProbeFailed):
        # nothing is kept: items fail in the ordinary way, or their confidence is unknown
        _log.warning("an endpoint could not be probed: %s", found.detail)
        return Way()
    return found.way
