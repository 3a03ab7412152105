"""Log lines: whose they are, what they are about, and one for a crash."""

from __future__ import annotations

import pytest

from tests.seeing.life import Memory
from tests.seeing.support import Watched

pytestmark = pytest.mark.timeout(600)


class TestAccess:
    @pytest.mark.usefixtures("memory")
    def test_a_line_a_request_with_its_route(self, watched: Watched) -> None:
        lines = [line for line in watched.lines("api") if line["logger"] == "secondlook.access"]
        submits = [
            line for line in lines if line["route"] == "/v1/assignments/{assignment_id}/submit"
        ]
        assert sorted(line["status"] for line in submits) == [200, 200, 500]
        for line in lines:
            assert line["request_id"].startswith("req_")
            assert line["duration_ms"] >= 0
            assert line["process"] == "api"
        assert len({line["request_id"] for line in lines}) == len(lines)


class TestACrash:
    @pytest.mark.usefixtures("memory")
    def test_is_one_line_that_says_where(self, watched: Watched) -> None:
        (line,) = [line for line in watched.lines("api") if "exception" in line]
        assert (line["event"], line["level"]) == ("unhandled error", "error")
        assert line["exception"].splitlines()[-1] == "app.domain.kinds.base.SchemaError"
        assert "app/review/" in line["exception"]
        (answered,) = [
            each
            for each in watched.lines("api")
            if each.get("request_id") == line["request_id"] and "route" in each
        ]
        assert answered["status"] == 500
        assert "Traceback (" not in watched.log()


class TestLinesAboutItems:
    def test_carry_the_ids_of_the_item_and_its_project(
        self, watched: Watched, memory: Memory
    ) -> None:
        (line, *_) = [
            line
            for line in watched.lines("worker")
            if line["event"].startswith("a label could not be stored")
        ]
        assert line["item_id"].startswith("itm_")
        assert line["project_id"].startswith("prj_")
        assert line["project_id"] != memory.project

    def test_of_the_sweeper_too(self, watched: Watched, memory: Memory) -> None:
        lines = [line for line in watched.lines("sweeper") if line["event"].startswith("took back")]
        assert memory.project in {line["project_id"] for line in lines}

    @pytest.mark.usefixtures("memory")
    def test_are_json_whoever_writes_them(self, watched: Watched) -> None:
        for process in ("api", "sweeper"):
            text = (watched.logs / f"{process}.log").read_text().splitlines()
            assert [line for line in text if not line.startswith("{")] == []
