"""Spans as a collector gets them: one trace from the request that sends items to the model."""

from __future__ import annotations

import pytest

from tests.seeing.life import ITEMS
from tests.seeing.receiver import Received
from tests.seeing.support import Watched

pytestmark = pytest.mark.timeout(600)

SERVER, CLIENT, CONSUMER = 2, 3, 5


@pytest.fixture
def spans(watched: Watched) -> list[Received]:
    return watched.spans.spans()


@pytest.mark.usefixtures("memory")
class TestSpans:
    def test_of_a_request_its_wake_up_and_its_calls_are_one_trace(
        self, spans: list[Received]
    ) -> None:
        by_id = {span.span: span for span in spans}
        calls = [span for span in spans if span.name == "chat scripted-test-model"]
        assert len(calls) >= ITEMS
        drains = [by_id[each] for each in {call.parent for call in calls} if each in by_id]
        assert {(drain.service, drain.name, drain.kind) for drain in drains} == {
            ("secondlook-worker", "drain", CONSUMER)
        }
        asked_for = [by_id[drain.parent] for drain in drains if drain.parent in by_id]
        ingest = [span for span in asked_for if span.name.endswith("/items/bulk")]
        assert ingest
        for request in ingest:
            assert (request.service, request.kind) == ("secondlook-api", SERVER)
            assert request.name == "POST /v1/projects/{project_id}/items/bulk"
            assert request.attributes["http.response.status_code"] == 200
            assert {span.trace for span in spans if span.parent == request.span} == {request.trace}

    def test_of_a_call_say_what_was_asked_of_whom_and_what_it_cost(
        self, spans: list[Received]
    ) -> None:
        call = next(
            span
            for span in spans
            if span.name == "chat scripted-test-model"
            and "gen_ai.usage.input_tokens" in span.attributes
        )
        said = call.attributes
        assert (call.kind, call.failed) == (CLIENT, False)
        assert said["gen_ai.operation.name"] == "chat"
        assert said["gen_ai.request.model"] == said["gen_ai.response.model"]
        assert said["gen_ai.response.finish_reasons"] == ["stop"]
        assert said["gen_ai.usage.input_tokens"] > said["gen_ai.usage.output_tokens"] > 0
        assert said["secondlook.item_id"].startswith("itm_")
        assert said["secondlook.project_id"].startswith("prj_")

    def test_of_a_call_that_failed_say_so(self, spans: list[Received]) -> None:
        failed = [span for span in spans if span.name.startswith("chat ") and span.failed]
        assert {span.attributes["error.type"] for span in failed} >= {"transient", "rejected"}

    def test_of_statements_stand_under_their_request(self, spans: list[Received]) -> None:
        by_id = {span.span: span for span in spans}
        statements = [span for span in spans if span.attributes.get("db.system") == "postgresql"]
        above = {by_id[span.parent].name for span in statements if span.parent in by_id}
        assert "POST /v1/projects/{project_id}/items/bulk" in above
        assert "drain" in above

    def test_of_a_query_name_its_parameters_and_not_their_values(
        self, spans: list[Received]
    ) -> None:
        queries = {
            str(span.attributes["url.query"]) for span in spans if "url.query" in span.attributes
        }
        assert "external_id" in queries
        assert not any("=" in query for query in queries)

    def test_no_probe_has_one(self, spans: list[Received]) -> None:
        assert not any(span.name.endswith(("/readyz", "/metrics")) for span in spans)
