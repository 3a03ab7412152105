"""Finding out how an endpoint can be asked for a confidence, by asking it; never by its name.

The project's own question is asked about a short neutral item, in the order of what is worth most:
a decision with probabilities, log probabilities by either interface, several answers. The first
that brings a label with a confidence is the way. What a model says of its own certainty is not
among them: that is used only where a labeler names it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.domain.backoff import FailureClass
from app.domain.confidence import ConfidenceSource
from app.domain.kinds.base import LabelSchema
from app.domain.unknown import UnknownReason
from app.infra.db import Database
from app.labeling import findings
from app.labeling.answer import Reading
from app.labeling.endpoint import CallError, ModelClient, ModelClients
from app.labeling.findings import AUTO, Finding, Try, finding_key
from app.labeling.question import build_question
from app.labeling.turn import Turn
from app.labeling.way import Api, Way

PROBE_SECONDS: Final = 30.0
"""How long one way may take to answer."""
NEUTRAL: Final = {"text": "This is a short text that says nothing in particular."}
# how often a probe under way asks whether the process stops
_IDLE_SECONDS: Final = 0.25
# An interface that is not there, or not for this model, answers one of these.
_ABSENT: Final = frozenset({400, 403, 404, 405, 415, 422, 501})


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """Nothing could be found out: `detail` says why, for people; `tries` what was tried."""

    detail: str
    tries: tuple[Try, ...] = ()


class Prober:
    """Finds out how labelers can be asked, and remembers it for everybody."""

    def __init__(
        self,
        database: Database,
        clients: ModelClients,
        *,
        seconds: float = PROBE_SECONDS,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """How long one way may take to answer, and whether there is time to wait for it at all."""
        self._database = database
        self._clients = clients
        self._seconds = seconds
        self._stopping = stopping

    async def probe(
        self, labeler: Mapping[str, Any], *, schema: LabelSchema, force: bool = False
    ) -> Finding | ProbeFailed:
        """How a labeler can be asked: what is known, else what its endpoint shows.

        Args:
            labeler: its row.
            schema: of its project.
            force: ask the endpoint though an answer is known, and forget what was learned
                meanwhile about its ways.
        """
        address = self._clients.address(labeler["base_url"])
        key = finding_key(labeler, schema=schema, address=address, source=AUTO)
        known = None if force else await findings.find(self._database, key)
        if known is not None:
            return known
        client = self._clients.get(labeler["base_url"])
        found = await self._unless_stopping(
            find_way(client, labeler, schema=schema, seconds=self._seconds)
        )
        if isinstance(found, ProbeFailed):
            return found
        if found.certain:
            await findings.keep(self._database, key, found.finding)
        if force and labeler["source"] != AUTO:
            named = finding_key(labeler, schema=schema, address=address, source=labeler["source"])
            await findings.forget(self._database, named)
        return found.finding

    async def _unless_stopping(
        self, finding: Coroutine[Any, Any, Found | ProbeFailed]
    ) -> Found | ProbeFailed:
        task = asyncio.create_task(finding)
        try:
            while not task.done():
                if self._stopping():
                    return ProbeFailed("the process stops")
                await asyncio.wait({task}, timeout=_IDLE_SECONDS)
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding, and whether it holds: False where a better way may have failed by chance."""

    finding: Finding
    certain: bool


async def find_way(
    client: ModelClient, labeler: Mapping[str, Any], *, schema: LabelSchema, seconds: float
) -> Found | ProbeFailed:
    """Asks an endpoint until a way fits, `seconds` at most for each."""
    tries: list[Try] = []
    certain = True
    for way in _candidates(labeler, schema):
        tried = await _attempt(client, labeler, schema=schema, way=way, seconds=seconds)
        tries.append(tried.result)
        if tried.result.fit:
            finding = Finding(tried.result.way, tuple(tries), tried.served_model)
            return Found(finding, certain)
        if tried.hopeless:
            return ProbeFailed(tried.result.said, tuple(tries))
        certain = certain and tried.certain
    return ProbeFailed("no way brought a label with a confidence", tuple(tries))


def _candidates(labeler: Mapping[str, Any], schema: LabelSchema) -> Iterator[Way]:
    """The ways in the order of trying; the interface that a labeler names before the other."""
    if schema.decision_questions() is not None:
        yield Way(ConfidenceSource.DECISIONS, Api.DECISIONS)
    apis = [Api.CHAT_COMPLETIONS, Api.RESPONSES]
    if labeler["api"] == Api.RESPONSES:
        apis.reverse()
    for source in (ConfidenceSource.LOGPROBS, ConfidenceSource.SELF_CONSISTENCY):
        for api in apis:
            yield Way(source, api)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How a try ended.

    Attributes:
        result: what is told of it.
        served_model: as the endpoint named it.
        hopeless: no other way can be tried now: nobody is there, or lets us in.
        certain: it would end so again.
    """

    result: Try
    served_model: str | None = None
    hopeless: bool = False
    certain: bool = True


async def _attempt(
    client: ModelClient,
    labeler: Mapping[str, Any],
    *,
    schema: LabelSchema,
    way: Way,
    seconds: float,
) -> _Attempt:
    # one answer shows that there would be several
    once = {**labeler, "parameters": {**labeler["parameters"], "votes": 1}}
    question = build_question(once, schema=schema, way=way)
    turn = Turn(client, question, ends=time.monotonic() + seconds)
    try:
        reading, _ = await turn.take(NEUTRAL)
    except CallError as error:
        return _failed(turn.question.way, error)
    fit = reading.score is not None
    return _Attempt(Try(turn.question.way, fit, _said(reading)), reading.served.model)


def _failed(way: Way, error: CallError) -> _Attempt:
    result = Try(way, fit=False, said=error.detail)
    if error.reason is UnknownReason.UNREADABLE_RESPONSE or error.status in _ABSENT:
        return _Attempt(result)
    there = error.status is not None and error.status >= 500
    limited = error.failure is FailureClass.RATE_LIMITED
    if there and not limited and way.api is not Api.CHAT_COMPLETIONS:
        # some gateways fail at what they do not know; others have a bad moment
        return _Attempt(result, certain=False)
    return _Attempt(result, hopeless=True)


def _said(reading: Reading) -> str:
    if reading.unknown is None:
        return "It answers with a confidence."
    return reading.unknown.detail
