"""What a log line says of an exception: everything but what the exception says."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from app.infra.db import describe
from app.infra.ids import Kind, to_wire
from app.infra.logging import (
    configure_logging,
    describe_places,
    ids_at_hand,
    log_about,
    set_request_id,
)

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Configures logging anew; what was written since."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    sink = io.StringIO()
    monkeypatch.setattr("sys.stderr", sink)
    configure_logging("INFO", process="test")
    yield lambda: [json.loads(line) for line in sink.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


def failing(secret: str) -> Exception:
    """An exception with a past, each part of which quotes a secret."""
    try:
        try:
            raise KeyError(secret)  # noqa: TRY301  # it must have been raised to have a place
        except KeyError as error:
            raise ValueError(f"no {secret}") from error
    except ValueError as error:
        return error


class TestAnException:
    def test_is_told_by_types_and_places(self) -> None:
        told = describe_places(failing("s3cret"))
        assert "s3cret" not in told
        assert [line for line in told.splitlines() if not line.startswith(" ")] == [
            "KeyError",
            "which led to",
            "ValueError",
        ]
        assert "test_logging.py:" in told
        assert " in failing: raise KeyError(secret)" in told

    def test_of_a_group_is_told_with_its_members(self) -> None:
        group = ExceptionGroup("s3cret", [failing("s3cret"), TypeError("s3cret")])
        told = describe_places(group)
        assert "s3cret" not in told
        assert told.splitlines()[0] == "ExceptionGroup"
        assert told.splitlines()[-1] == "TypeError"

    def test_that_caused_itself_ends(self) -> None:
        error = ValueError("s3cret")
        other = KeyError("s3cret")
        error.__context__, other.__context__ = other, error
        assert describe_places(error).splitlines() == ["KeyError", "which led to", "ValueError"]

    def test_of_deep_recursion_is_cut(self) -> None:
        def deeper(n: int) -> None:
            if n == 0:
                raise ValueError
            deeper(n - 1)

        with pytest.raises(ValueError) as caught:  # noqa: PT011  # it says nothing
            deeper(100)
        assert len(describe_places(caught.value).splitlines()) < 50

    def test_is_logged_so_whoever_logs_it(self, lines: Lines) -> None:
        logging.getLogger("any.library").error("it failed", exc_info=failing("s3cret"))
        (line,) = lines()
        assert line["event"] == "it failed"
        assert line["exception"].endswith("ValueError")
        assert "s3cret" not in json.dumps(line)

    async def test_of_a_task_nobody_waited_for_is_silent_too(self, lines: Lines) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "Task exception was never retrieved", "future": failing("s3cret")}
        )
        (line,) = lines()
        assert line["event"] == "Task exception was never retrieved"
        assert "s3cret" not in json.dumps(line)


class TestADatabaseError:
    def test_whose_message_quotes_what_was_sent_is_told_by_its_name(self) -> None:
        class Quoting(psycopg.errors.InvalidTextRepresentation):
            @property
            def diag(self) -> Any:
                return type("Diag", (), {"message_primary": 'invalid input syntax: "s3cret"'})

        assert describe(Quoting()) == "Quoting"


class TestContext:
    async def test_a_line_carries_what_its_task_is_about(self, lines: Lines) -> None:
        item, project = uuid.uuid4(), uuid.uuid4()

        async def label() -> None:
            log_about(item_id=item)
            logging.getLogger("x").info("one")

        log_about(project_id=project)
        await asyncio.create_task(label())
        logging.getLogger("x").info("other")
        one, other = lines()
        wire = {"project_id": to_wire(Kind.PROJECT, project)}
        assert ids_at_hand() == wire
        assert one.items() >= {**wire, "item_id": to_wire(Kind.ITEM, item)}.items()
        assert other.items() >= wire.items()
        assert "item_id" not in other

    async def test_a_request_has_its_id_and_its_callers(self, lines: Lines) -> None:
        async def answer() -> None:
            set_request_id("req_1", of_caller="theirs-1")
            logging.getLogger("x").info("one")

        await asyncio.create_task(answer())
        logging.getLogger("x").info("other")
        one, other = lines()
        assert (one["request_id"], one["caller_request_id"]) == ("req_1", "theirs-1")
        assert "request_id" not in other

    def test_ids_given_to_a_line_are_spelled_as_on_the_wire(self, lines: Lines) -> None:
        item = uuid.uuid4()
        logging.getLogger("x").info("one", extra={"item_id": item})
        assert lines()[0]["item_id"] == to_wire(Kind.ITEM, item)

    def test_libraries_that_tell_what_passes_are_quiet(self, lines: Lines) -> None:
        for name in ("httpx2", "openai", "sqlalchemy.engine", "psycopg.pool", "kombu.connection"):
            logging.getLogger(name).info("a payload")
        assert lines() == []
