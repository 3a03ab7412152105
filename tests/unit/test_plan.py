"""What a batch of outcomes comes to, before anything is written."""

from __future__ import annotations

import random
import uuid

from app.domain.backoff import Backoff, FailureClass
from app.domain.unknown import UnknownReason
from app.labeling.answer import Reading
from app.labeling.call import Answered, Failed, Job, Outcome
from app.labeling.plan import Plan, plan

BACKOFF = Backoff(base=2.0, max_attempts=6)


def a_job(attempts: int = 0) -> Job:
    return Job(uuid.uuid4(), uuid.uuid4(), attempts, {"text": "any"})


def answered(attempts: int = 0) -> Answered:
    return Answered(a_job(attempts), Reading("spam", None, None, None, None), False, 0.1)


def failed(failure: FailureClass, *, attempts: int = 0, retry_after: float | None = None) -> Failed:
    return Failed(
        a_job(attempts), failure, UnknownReason.MODEL_UNREACHABLE, "it failed", retry_after
    )


def planned(*outcomes: Outcome) -> Plan:
    return plan(outcomes, backoff=BACKOFF, rng=random.Random(1))


class TestPlan:
    def test_of_nothing_is_nothing(self) -> None:
        assert planned() == Plan([], [], None)

    def test_an_answer_settles_its_item_and_counts_as_an_attempt(self) -> None:
        outcome = answered(attempts=2)
        decided = planned(outcome)
        assert [(each.outcome, each.attempts) for each in decided.settled] == [(outcome, 3)]
        assert decided.returned == []
        assert decided.pause_seconds is None

    def test_a_failure_that_may_pass_returns_its_item_for_later(self) -> None:
        outcome = failed(FailureClass.TRANSIENT, attempts=1)
        (returned,) = planned(outcome).returned
        assert returned.job is outcome.job
        assert returned.attempts == 2
        assert 4.0 <= returned.delay <= 8.0
        assert returned.error == "it failed"

    def test_the_last_failure_settles_its_item(self) -> None:
        outcome = failed(FailureClass.TRANSIENT, attempts=5)
        decided = planned(outcome)
        assert [(each.outcome, each.attempts) for each in decided.settled] == [(outcome, 6)]

    def test_a_refused_request_settles_its_item(self) -> None:
        decided = planned(failed(FailureClass.REJECTED))
        assert [each.attempts for each in decided.settled] == [1]

    def test_of_several_rate_limits_the_longest_pauses_the_endpoint(self) -> None:
        limits = [failed(FailureClass.RATE_LIMITED, retry_after=each) for each in (3.0, 9.0, 1.0)]
        decided = planned(answered(), *limits)
        assert decided.pause_seconds is not None
        assert 9.0 < decided.pause_seconds < 9.4
        assert len(decided.settled) == 1
        assert [each.attempts for each in decided.returned] == [0, 0, 0]
        # no item is due before the server is to be asked again for it
        assert all(
            each.delay > asked for each, asked in zip(decided.returned, (3, 9, 1), strict=True)
        )

    def test_failures_at_one_moment_do_not_come_back_at_one_moment(self) -> None:
        decided = planned(*(failed(FailureClass.TRANSIENT) for _ in range(50)))
        assert len({each.delay for each in decided.returned}) == 50
