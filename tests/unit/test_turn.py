"""One item's turn with a model whose answers are written down here: what is sent, what it used."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.domain.backoff import FailureClass
from app.domain.confidence import ConfidenceSource
from app.domain.kinds import parse_schema
from app.domain.unknown import UnknownReason
from app.domain.usage import Usage
from app.labeling.call import Answered, Failed, Job, Outcome, ask
from app.labeling.endpoint import CallError, RawAnswer, not_sent, status_error, unreachable
from app.labeling.question import Question
from app.labeling.way import Structured, Way
from tests.support.model_quirks import DEEPSEEK_NO_SCHEMA

SCHEMA = parse_schema({"kind": "single_choice", "labels": ["spam", "ham"]})
VOTES = Way(ConfidenceSource.SELF_CONSISTENCY)
JOB = Job(uuid.uuid4(), uuid.uuid4(), 0, {"text": "Hello"})
LIMITED = status_error(429, {"retry-after": "0"}, b"")
# counted by the server as one, so that sums can be told apart
TOLD = {"prompt_tokens": 100, "completion_tokens": 7}


def says(content: str, usage: Mapping[str, int] | None = TOLD) -> RawAnswer:
    choice = {"message": {"content": content}, "finish_reason": "stop"}
    return RawAnswer(json.dumps({"choices": [choice], "usage": usage}).encode())


SPAM, HAM, WRONG = says('{"label":"spam"}'), says('{"label":"ham"}'), says("Spam, I think.")


def refused(saying: tuple[int, Any]) -> CallError:
    status, document = saying
    return status_error(status, {}, json.dumps(document).encode())


class ScriptedModel:
    """A model client that answers with one thing after the other; None never comes."""

    def __init__(self, script: Sequence[RawAnswer | CallError | None]) -> None:
        self._script = list(script)
        self.bodies: list[Mapping[str, Any]] = []

    async def complete(self, path: str, body: Mapping[str, Any]) -> RawAnswer:
        assert path == "/chat/completions"
        self.bodies.append(body)
        answer = self._script.pop(0)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, CallError):
            raise answer
        assert answer is not None
        return answer


async def turn(
    *script: RawAnswer | CallError | None, way: Way | None = None, **given: Any
) -> tuple[Outcome, ScriptedModel]:
    model = ScriptedModel(script)
    parameters = {"temperature": 0.0, "votes": 3}
    question = Question("m", "system", SCHEMA, parameters, way=way or Way())
    outcome = await ask(model, question, JOB, **{"deadline_seconds": 60.0, **given})
    return outcome, model


class TestWhatATurnUsed:
    @pytest.mark.parametrize(
        ("script", "way", "usage"),
        [
            ([SPAM], None, Usage(1, 100, 7)),
            # a repair, and one that failed
            ([WRONG, SPAM], None, Usage(2, 200, 14)),
            ([WRONG, unreachable(OSError())], None, Usage(2, 100, 7, untold=1)),
            ([WRONG, not_sent(OSError())], None, Usage(1, 100, 7)),
            # a server that does not count
            ([says('{"label":"spam"}', None)], None, Usage(1, untold=1)),
            # what was refused cost nothing, but was asked
            ([refused(DEEPSEEK_NO_SCHEMA), SPAM], None, Usage(2, 100, 7)),
            ([SPAM, HAM, SPAM], VOTES, Usage(3, 300, 21)),
            ([SPAM, LIMITED, SPAM, SPAM], VOTES, Usage(4, 300, 21)),
            ([WRONG, WRONG, WRONG, SPAM], VOTES, Usage(4, 400, 28)),
        ],
    )
    async def test_is_the_sum_of_its_calls(
        self, script: list[RawAnswer | CallError], way: Way | None, usage: Usage
    ) -> None:
        outcome, _ = await turn(*script, way=way)
        assert isinstance(outcome, Answered)
        assert outcome.usage == usage

    @pytest.mark.parametrize(
        ("script", "way", "usage"),
        [
            ([LIMITED], None, Usage(1)),
            ([not_sent(OSError())], None, Usage()),
            ([unreachable(OSError())], None, Usage(1, untold=1)),
            ([RawAnswer(b"<html>")], None, Usage(1, untold=1)),
            ([WRONG, LIMITED], None, Usage(2, 100, 7)),
            ([LIMITED, unreachable(OSError()), LIMITED], VOTES, Usage(3, untold=1)),
        ],
    )
    async def test_is_told_of_a_failure_too(
        self, script: list[RawAnswer | CallError], way: Way | None, usage: Usage
    ) -> None:
        outcome, _ = await turn(*script, way=way)
        assert isinstance(outcome, Failed)
        assert outcome.usage == usage

    async def test_is_not_known_of_a_call_that_the_deadline_cut_off(self) -> None:
        outcome, _ = await turn(None, deadline_seconds=0.01)
        assert isinstance(outcome, Failed)
        assert outcome.usage == Usage(1, untold=1)
        assert outcome.reason is UnknownReason.MODEL_UNREACHABLE

    async def test_is_nothing_while_the_endpoint_rests(self) -> None:
        outcome, model = await turn(rest_seconds=lambda: 3.0)
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.retry_after) == (FailureClass.RATE_LIMITED, 3.0)
        assert (outcome.usage, model.bodies) == (Usage(), [])


class TestSeveralAnswers:
    async def test_that_came_are_kept_though_the_others_have_no_time(self) -> None:
        # to ask again within the turn would be before the server allows it
        long = status_error(429, {"retry-after": "3600"}, b"")
        outcome, model = await turn(SPAM, long, SPAM, way=VOTES)
        assert isinstance(outcome, Answered)
        assert outcome.reading.score is not None
        assert outcome.reading.score.confidence == pytest.approx(2.5 / 4)
        assert len(model.bodies) == 3

    async def test_that_all_fail_are_the_failure_that_asks_for_patience(self) -> None:
        outcome, _ = await turn(unreachable(OSError()), LIMITED, not_sent(OSError()), way=VOTES)
        assert isinstance(outcome, Failed)
        assert outcome.failure is FailureClass.RATE_LIMITED


class TestAnotherWay:
    async def test_is_told_to_the_question_s_owner_when_it_worked(self) -> None:
        told: list[Way] = []

        async def learned(way: Way) -> None:
            told.append(way)

        question = Question("m", "system", SCHEMA, {}, learned=learned)
        refuses = refused(DEEPSEEK_NO_SCHEMA)
        for then in (SPAM, LIMITED):
            await ask(ScriptedModel([refuses, then]), question, JOB, deadline_seconds=60.0)
        assert told == [replace(Way(), structured=Structured.JSON_OBJECT)]

    async def test_is_not_looked_for_without_end(self) -> None:
        always = refused((400, {"message": "response_format, temperature, store: no"}))
        outcome, model = await turn(*[always] * 20)
        assert isinstance(outcome, Failed)
        assert outcome.reason is UnknownReason.REQUEST_REJECTED
        # a schema, an object, nothing; then without a temperature, and without `store`
        assert len(model.bodies) == 5
