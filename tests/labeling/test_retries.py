"""Failures that may pass: tried again with growing delays kept in Postgres, then left to people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from app.infra.ids import Kind, from_wire
from app.labeling.client import MAX_ANSWER_BYTES
from app.settings import Settings
from tests.labeling.support import Endless, NoContent, Packed, Redirect, Stage, garbage_server
from tests.support.labeling import LabelingSide
from tests.support.model_plays import FAULTS, Answer, Play, Status
from tests.support.model_server import ModelServer

ATTEMPTS = 6
BASE = 60.0


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    """Delays so long that nothing is tried again unless the test moves its time.

    No breaker: here an endpoint that fails for all is the same as many items that fail.
    """
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        retry_base_seconds=BASE,
        max_attempts=ATTEMPTS,
        breaker_failures=10_000,
        call_deadline_seconds=60.0,
        label_lease_seconds=90.0,
    )


@pytest.fixture
async def hasty(settings: Settings) -> AsyncIterator[LabelingSide]:
    """A worker with a short deadline."""
    short = {"call_deadline_seconds": 0.5}
    async with LabelingSide.open(settings.model_copy(update=short)) as side:
        yield side


async def due_in(stage: Stage, item_id: str) -> float:
    """Seconds until the next attempt, by the database's clock."""
    (row,) = await stage.sql.rows(
        "SELECT extract(epoch FROM next_attempt_at - now())::float8 AS seconds FROM items "
        "WHERE id = %(id)s",
        id=from_wire(Kind.ITEM, item_id),
    )
    return float(row["seconds"])


async def try_until_given_up(stage: Stage, project: str) -> None:
    for _ in range(ATTEMPTS):
        await stage.labeling.drain(project)
        await stage.make_due(project)


class TestAFailureThatStays:
    async def test_goes_to_people_with_the_reason_after_six_attempts(
        self, stage: Stage, subtests: pytest.Subtests
    ) -> None:
        elsewhere = f"{stage.model.url.removesuffix('/v1')}/elsewhere"
        await self.play(
            stage,
            stage.labeling,
            subtests,
            {
                # the endpoint answers, and says that it can't
                "500": (FAULTS["500"], "attempts_exhausted", "answered 500"),
                "502 page": (FAULTS["502_html"], "attempts_exhausted", "answered 502"),
                "503": (FAULTS["503"], "attempts_exhausted", "answered 503"),
                "503 time": (FAULTS["503_retry_after"], "attempts_exhausted", "answered 503"),
                # the endpoint is wrong for us: somebody may mend it while the item waits
                "401": (FAULTS["401"], "request_rejected", "answered 401"),
                "404": (FAULTS["404"], "request_rejected", "answered 404"),
                "302": (Redirect(location=elsewhere), "request_rejected", "answered 302"),
                "307": (Redirect(location=elsewhere, status=307), "request_rejected", "answered"),
                # no answer
                "reset": (FAULTS["reset"], "model_unreachable", "could not be reached"),
                "reset later": (FAULTS["reset_midway"], "model_unreachable", "could not be"),
                "cut": (FAULTS["cut_body"], "model_unreachable", "could not be reached"),
                # an answer that is none
                "page": (FAULTS["html"], "unreadable_response", "can't be read"),
                "half": (FAULTS["truncated_body"], "unreadable_response", "can't be read"),
                "null choices": (FAULTS["null_choices"], "unreadable_response", "can't be read"),
                "nothing": (NoContent(), "unreadable_response", "can't be read"),
                "packed": (Packed(), "unreadable_response", "compressed"),
            },
        )

    async def test_in_being_slow_is_met_by_a_total_deadline(
        self, stage: Stage, hasty: LabelingSide, subtests: pytest.Subtests
    ) -> None:
        await self.play(
            stage,
            hasty,
            subtests,
            {
                "hang": (FAULTS["hang"], "model_unreachable", "within 0.5 s"),
                # each read succeeds, and none is the last
                "drip": (FAULTS["drip"], "model_unreachable", "within 0.5 s"),
            },
        )

    async def play(
        self,
        stage: Stage,
        side: LabelingSide,
        subtests: pytest.Subtests,
        cases: dict[str, tuple[Play, str, str]],
    ) -> None:
        """An item for each fault, until all are given up; each with its reason and its words."""
        stage.model.rules = {f"[{name}]": [play] for name, (play, _, _) in cases.items()}
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        ids = await stage.api.send_items(project, [f"[{name}]" for name in cases])
        for _ in range(ATTEMPTS):
            await side.drain(project)
            await stage.make_due(project)

        for item_id, (name, (_, reason, detail)) in zip(ids, cases.items(), strict=True):
            with subtests.test(fault=name):
                shown = await stage.item(item_id)
                assert (shown["state"], shown["label"]) == ("in_review", None)
                assert shown["attempts"] == ATTEMPTS
                assert stage.model.calls_per_item[f"[{name}]"] == ATTEMPTS
                assert shown["confidence"] == {"value": None, "source": None, "reason": reason}
                assert shown["route_reason"] == "unknown_confidence"
                assert detail in shown["last_error"]
                assert await stage.predictions(item_id) == []
                assert await stage.events(item_id) == ["item.routed"]
        assert await stage.by_state(project) == {"in_review": len(cases)}

    async def test_of_one_item_is_no_matter_to_its_neighbours(self, stage: Stage) -> None:
        stage.model.rules = {"odd": [FAULTS["500"]]}
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        await stage.api.send_items(project, ["odd", *(f"text {n}" for n in range(20))])
        assert (await stage.labeling.drain(project)).settled == 20
        assert await stage.by_state(project) == {"accepted": 20, "pending": 1}

    async def test_of_an_answer_without_end_is_cut_off(self, stage: Stage) -> None:
        endless = Endless()
        stage.model.default = [endless]
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        await stage.labeling.drain(project)
        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == ("pending", 1)
        assert f"more than {MAX_ANSWER_BYTES} bytes" in shown["last_error"]
        # what the sockets on both sides hold comes on top
        assert endless.sent[0] < MAX_ANSWER_BYTES + 16 * 1024 * 1024

    async def test_of_an_absent_server_goes_to_people_too(self, stage: Stage) -> None:
        stage.model.refuse()
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        await try_until_given_up(stage, project)
        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == ("in_review", ATTEMPTS)
        assert shown["confidence"]["reason"] == "model_unreachable"
        assert shown["last_error"] == (
            "the model server could not be reached: it refused the connection"
        )
        assert [entry["item_id"] for entry in await stage.queue(project)] == [item]

    @pytest.mark.parametrize(
        "says",
        [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 what?\r\n\r\n", b"HTTP/1.1 200 OK\r\n\xff\r\n"],
        ids=["mail server", "bad status line", "bad header"],
    )
    async def test_of_a_server_that_speaks_no_http_goes_to_people_too(
        self, stage: Stage, says: bytes
    ) -> None:
        with garbage_server(says) as base_url:
            project = await stage.api.make_project(labeler={"base_url": base_url})
            (item,) = await stage.api.send_items(project, ["some text"])
            await try_until_given_up(stage, project)
        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == ("in_review", ATTEMPTS)
        assert shown["confidence"]["reason"] == "model_unreachable"


class TestAFailureThatPasses:
    @pytest.mark.parametrize("fault", ["500", "401", "reset", "html"])
    async def test_leaves_no_trace_but_its_attempts(self, stage: Stage, fault: str) -> None:
        stage.model.default = [FAULTS[fault], FAULTS[fault], Answer()]
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        (item,) = await stage.api.send_items(project, ["some text"])
        for _ in range(3):
            await stage.labeling.drain(project)
            await stage.make_due(project)
        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == ("accepted", 3)
        assert shown["last_error"] is None
        assert len(await stage.predictions(item)) == 1
        assert stage.model.calls_per_item["some text"] == 3

    async def test_an_absent_server_that_comes_back_labels_what_waited(self, stage: Stage) -> None:
        stage.model.refuse()
        project = await stage.api.make_project(policy={"kind": "accept_all"})
        await stage.api.send_items(project, [f"text {n}" for n in range(30)])
        assert (await stage.labeling.drain(project)).settled == 0
        assert await stage.by_state(project) == {"pending": 30}
        stage.model.accept()
        await stage.make_due(project)
        assert (await stage.labeling.drain(project)).settled == 30
        assert await stage.by_state(project) == {"accepted": 30}


class TestTheNextAttempt:
    async def test_waits_in_postgres_and_is_honoured(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["500"]]
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        for attempt, (shortest, longest) in enumerate(
            # from half of the delay to all of it, fourfold each time and capped at 300 s; a slow
            # machine may have used up some of it
            [(0, 60), (60, 240), (100, 300), (100, 300)],
            start=1,
        ):
            await stage.labeling.drain(project)
            assert stage.model.count == attempt
            shown = await stage.item(item)
            assert (shown["state"], shown["attempts"]) == ("pending", attempt)
            assert "answered 500" in shown["last_error"]
            assert shown["next_attempt_at"] is not None
            assert shortest < await due_in(stage, item) <= longest
            # nobody calls before it is due, whoever asks
            await stage.labeling.drain(project)
            assert stage.model.count == attempt
            await stage.make_due(project)

    async def test_comes_not_before_the_server_says(self, stage: Stage) -> None:
        stage.model.default = [Status(status=503, retry_after=1000)]
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        await stage.labeling.drain(project)
        assert 900 < await due_in(stage, item) <= 1000

    async def test_of_items_that_failed_together_comes_apart(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["503"]]
        project = await stage.api.make_project()
        await stage.api.send_items(project, [f"text {n}" for n in range(20)])
        await stage.labeling.drain(project)
        (row,) = await stage.sql.rows(
            "SELECT count(DISTINCT date_trunc('milliseconds', next_attempt_at)) AS moments "
            "FROM items WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        assert row["moments"] > 15


class TestTheDeadline:
    async def test_is_for_a_call_and_its_repair_together(
        self, stage: Stage, settings: Settings
    ) -> None:
        # the repair hangs: the first answer stands, and the item is not tried again
        stage.model.default = [FAULTS["off_schema"], FAULTS["hang"]]
        project = await stage.api.make_project()
        (item,) = await stage.api.send_items(project, ["some text"])
        short = settings.model_copy(update={"call_deadline_seconds": 3.0})
        async with LabelingSide.open(short) as side:
            assert (await side.drain(project)).settled == 1
        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == ("in_review", 1)
        assert shown["confidence"]["reason"] == "label_outside_schema"
        assert stage.model.count == 2
