"""What /metrics of each process says after a life with everything in it."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.seeing.life import ITEMS, Memory
from tests.seeing.support import Watched, labels, samples
from tests.support import processes

pytestmark = pytest.mark.timeout(600)

# what came in, what the model failed on, and what was held by the child that was killed
ALL = ITEMS + 8 + 4


class TestFactsOfTheService:
    async def test_are_those_of_the_database(self, watched: Watched, memory: Memory) -> None:
        told = await watched.metrics("api")
        stats = await watched.client.get(f"/v1/projects/{memory.project}/stats")
        assert {
            dict(key)["state"]: value for key, value in told["secondlook_items"].items()
        } == stats["items"]
        none = labels()
        assert told["secondlook_items_labeled_total"][none] == ALL
        assert told["secondlook_queue_depth"][none] == stats["queue_depth"]
        assert told["secondlook_assignments_leased"][none] == stats["leased"] == 1
        assert told["secondlook_oldest_pending_seconds"][none] == 0
        assert told["secondlook_oldest_in_review_seconds"][none] > 0
        assert told["secondlook_database_up"][none] == 1
        assert told["secondlook_sweeper_active"][none] == 1

    def test_are_left_out_while_the_database_is_away(self, memory: Memory) -> None:
        told = samples(memory.while_away)
        assert told["secondlook_database_up"] == {labels(): 0}
        assert "secondlook_items" not in told
        # the process's own stay
        assert told["secondlook_items_received_total"][labels(status="created")] > 0


class TestTheApi:
    @pytest.mark.usefixtures("memory")
    async def test_tells_of_requests_by_template(self, watched: Watched) -> None:
        told = (await watched.metrics("api"))["secondlook_http_request_seconds_count"]
        bulk = "/v1/projects/{project_id}/items/bulk"
        assert told[labels(method="POST", route=bulk, status="200")] >= 3
        submit = "/v1/assignments/{assignment_id}/submit"
        assert told[labels(method="POST", route=submit, status="200")] == 2
        assert told[labels(method="POST", route=submit, status="500")] == 1
        assert told[labels(method="GET", route="none", status="404")] == 1
        assert {dict(key)["route"] for key in told} >= {"/metrics", "/readyz"}

    @pytest.mark.usefixtures("memory")
    async def test_tells_of_what_people_and_senders_did(self, watched: Watched) -> None:
        told = await watched.metrics("api")
        assert sum(told["secondlook_reviews_total"].values()) == 2
        assert told["secondlook_reviews_total"][labels(agreed="yes")] >= 1
        received = told["secondlook_items_received_total"]
        assert received[labels(status="created")] == ALL + 2
        assert received[labels(status="conflict")] == 1
        assert told["secondlook_wake_ups_total"][labels(outcome="sent")] > 0

    @pytest.mark.usefixtures("memory")
    async def test_tells_of_itself(self, watched: Watched) -> None:
        told = await watched.metrics("api")
        assert told["process_resident_memory_bytes"][labels()] > 1e6
        ((build, one),) = told["secondlook_build_info"].items()
        assert (list(dict(build)), one) == (["version"], 1)
        assert labels(process="api", state="in_use") in told["secondlook_database_pool_connections"]


class TestTheWorker:
    @pytest.mark.usefixtures("memory")
    async def test_tells_of_all_its_children(self, watched: Watched) -> None:
        told = await watched.metrics("worker")
        asked = watched.model.count
        ended = told["secondlook_llm_request_seconds_count"]
        # calls of the child that was killed never ended, and the sweeper may have helped
        assert asked - 8 <= sum(ended.values()) <= asked
        assert ended[labels(outcome="answered")] >= ITEMS
        assert ended[labels(outcome="transient")] > 0
        assert ended[labels(outcome="rejected")] >= 1
        attempts = told["secondlook_label_attempts_total"]
        assert attempts[labels(outcome="labeled", fault="none")] >= ITEMS
        assert attempts[labels(outcome="labeled", fault="no_logprobs")] == 1
        assert attempts[labels(outcome="unusable", fault="refusal")] == 1
        assert attempts[labels(outcome="failed", fault="unreadable_response")] > 0
        assert attempts[labels(outcome="failed", fault="request_rejected")] >= 1
        tokens = told["secondlook_llm_tokens_total"]
        assert tokens[labels(direction="input")] > tokens[labels(direction="output")] > 0
        assert told["secondlook_label_results_lost_total"][labels(reason="refused")] >= 1

    async def test_forgets_what_a_killed_child_held_and_not_what_it_did(
        self, watched: Watched, memory: Memory
    ) -> None:
        assert not psutil.pid_exists(memory.killed)
        async with asyncio.timeout(processes.PATIENCE):
            while watched.model.in_flight:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.05)
        told = await watched.metrics("worker")
        # it died with calls under way
        assert told["secondlook_llm_requests_in_flight"] == {labels(): 0}
        assert told["secondlook_label_attempts_total"][labels(outcome="labeled", fault="none")] > 0


class TestTheSweeper:
    @pytest.mark.usefixtures("memory")
    async def test_tells_of_what_it_took_back(self, watched: Watched) -> None:
        told = await watched.metrics("sweeper")
        assert told["secondlook_leases_expired_total"][labels(kind="label")] >= 4
        assert labels(process="sweeper") in told["secondlook_database_pool_waiting"]
