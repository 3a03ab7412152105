"""`secondlook score` as a user runs it: a process of its own, with nothing beside it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import cli
from tests.support.processes import ROOT

LABELS = "Media,Sports,Politics"
NAMES = [
    *("line", "label", "confidence", "source", "logit"),
    *("p_raw", "p_norm", "margin", "entropy", "off_label", "ambiguous", "unseen"),
    *("alternatives", "reason", "detail", "model", "error"),
]


def entry(text: str, p: float, **others: float) -> dict[str, Any]:
    """A token as endpoints show it, with its alternatives."""
    listed = {text: p, **others}
    return {
        "token": text,
        "bytes": list(text.encode()),
        "logprob": math.log(p),
        "top_logprobs": [
            {"token": each, "bytes": None, "logprob": math.log(q)} for each, q in listed.items()
        ],
    }


MEDIA = entry("Media", 0.8, Sports=0.1, Else=0.05)
FRAMED = [entry('{"label":"', 1.0), MEDIA, entry('"}', 1.0)]


def text_of(entries: list[dict[str, Any]]) -> str:
    return "".join(each["token"] for each in entries)


def choice(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text_of([*entries]), "refusal": None}
    logprobs = {"content": [*entries], "refusal": None}
    return {"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs, **more}


def completion(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"object": "chat.completion", "model": "gpt-4o-2024-08-06", "choices": [*choices]}


def response(*entries: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text_of([*entries]), "logprobs": [*entries]}
    output = [
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [part]},
    ]
    return {"object": "response", "status": status, "model": "gpt-4o", "output": output}


DECISION = {
    "model": "gpt-6-luna",
    "answers": [
        {
            "type": "choice",
            "name": "label",
            "choice": "Media",
            "confidence": 0.8,
            "probabilities": [
                {"value": "Media", "probability": 0.8},
                {"value": "Sports", "probability": 0.1},
            ],
        }
    ],
}
BATCH = {"custom_id": "1", "response": {"status_code": 200, "body": completion(choice(MEDIA))}}


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    said: str

    @property
    def results(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def run(*arguments: object, stdin: bytes = b"", labels: str | None = LABELS) -> Ran:
    named = [] if labels is None else ["--labels", labels]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "score", *map(str, arguments), *named],
        # no server, no database, no key: nothing of it is in the environment
        env={"PATH": os.environ["PATH"]},
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def invoke(*arguments: object, stdin: bytes = b"", labels: str | None = LABELS) -> Ran:
    """The same in this process: for tables of cases."""
    named = [] if labels is None else ["--labels", labels]
    done = CliRunner().invoke(cli, ["score", *map(str, arguments), *named], input=stdin)
    return Ran(done.exit_code, done.stdout, done.stderr)


def lines(*values: object) -> bytes:
    return b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in values
    )


class TestForms:
    def test_every_form_of_the_same_answer_is_scored_alike(self) -> None:
        prose = [entry("It is:\n```json\n", 1.0), *FRAMED, entry("\n```", 1.0)]
        thought = [entry("<think>Sports? No.</think>\n", 1.0)]
        forms = [
            completion(choice(*FRAMED)),
            completion(choice(MEDIA)),
            completion(choice(MEDIA, finish_reason="length")),  # asked for one token
            completion(choice(MEDIA), choice(entry("Sports", 1.0))),
            completion(choice(*prose)),
            completion(choice(*thought, *FRAMED)),
            completion(choice(*thought, MEDIA)),
            choice(MEDIA),
            response(MEDIA),
            response(*FRAMED),
            response(MEDIA, status="incomplete")
            | {"incomplete_details": {"reason": "max_output_tokens"}},
            BATCH,
        ]
        ran = run("-", "--json", stdin=lines(*forms))
        assert (ran.status, ran.said) == (0, "")
        assert len(ran.results) == len(forms)
        for number, result in enumerate(ran.results, start=1):
            assert list(result) == NAMES
            assert result["line"] == number
            assert (result["label"], result["source"]) == ("Media", "logprobs")
            assert result["p_raw"] == pytest.approx(0.8)
            assert result["p_norm"] == pytest.approx(0.8 / 0.9)
            assert result["confidence"] == pytest.approx(0.8 / 0.95)
            assert result["logit"] == pytest.approx(math.log(0.8 / 0.15))
            assert result["margin"] == pytest.approx(0.7 / 0.9)
            assert result["off_label"] == pytest.approx(0.05)
            assert result["unseen"] == pytest.approx(0.05)
            assert result["ambiguous"] == 0.0
            assert [each["label"] for each in result["alternatives"]] == LABELS.split(",")
            assert result["reason"] is result["error"] is None

    def test_a_decision_has_the_confidence_of_its_probabilities(self) -> None:
        (result,) = invoke("-", "--json", stdin=lines(DECISION)).results
        assert (result["label"], result["source"]) == ("Media", "decisions")
        assert result["confidence"] == pytest.approx(0.8 / 0.9)
        assert result["model"] == "gpt-6-luna"

    @pytest.mark.parametrize(
        ("answer", "label", "reason"),
        [
            (completion(), None, "no_choices"),
            (completion(choice(MEDIA, logprobs=None)), "Media", "no_logprobs"),
            (completion(choice(entry("Median", 1.0))), None, "label_outside_schema"),
            (completion(choice(entry("Med", 1.0), finish_reason="length")), None, "truncated"),
            (completion(choice(MEDIA, finish_reason="content_filter")), None, "content_filter"),
            (completion(choice(MEDIA, message={"content": "Sports"})), "Sports", "bytes_differ"),
            (completion(choice(message={"refusal": "No."})), None, "refusal"),
            ({"choices": [{"delta": {"content": "Media"}}]}, None, "truncated"),
            ({"answers": [{"type": "refusal", "name": None}]}, None, "refusal"),
        ],
    )
    def test_why_a_confidence_is_unknown(
        self, answer: Mapping[str, Any], label: str | None, reason: str
    ) -> None:
        ran = invoke("-", "--json", stdin=lines(answer))
        assert ran.status == 0
        (result,) = ran.results
        assert list(result) == NAMES
        assert (result["label"], result["reason"]) == (label, reason)
        assert result["detail"]
        assert {
            result[name] for name in NAMES[2:] if name not in {"reason", "detail", "model"}
        } == {None}

    def test_a_label_that_begins_another_one_is_not_certain_to_have_ended(self) -> None:
        ship = entry("ship", 0.9, plane=0.1)
        for each in (choice(ship), choice(ship, finish_reason="length")):
            (result,) = invoke(
                "-", "--json", stdin=lines(each), labels="ship,shipping,plane"
            ).results
            assert result["reason"] in {"no_alternatives", "truncated"}


class TestText:
    def test_shows_every_figure(self, tmp_path: Path) -> None:
        path = tmp_path / "response.json"
        path.write_text(json.dumps(completion(choice(MEDIA)), indent=2))
        ran = run(path)
        assert (ran.status, ran.said) == (0, "")
        shown = dict(line.split(maxsplit=1) for line in ran.out.splitlines() if line[0] != " ")
        assert shown["label"] == "Media"
        assert shown["model"] == "gpt-4o-2024-08-06"
        assert float(shown["p_raw"]) == pytest.approx(0.8)
        assert float(shown["confidence"]) == pytest.approx(0.8 / 0.95)
        assert float(shown["logit"]) == pytest.approx(math.log(0.8 / 0.15))
        assert {*NAMES[5:12]} <= {*shown}
        assert shown["alternatives"].endswith("Media")
        assert "0.1              Sports" in ran.out

    def test_says_why_it_is_unknown(self) -> None:
        ran = invoke("-", stdin=lines(completion(choice(MEDIA, logprobs=None))))
        assert ran.status == 0
        assert "label         Media" in ran.out
        assert "unknown: no_logprobs: The answer has no logprobs." in ran.out


class TestLines:
    def test_a_bad_line_is_named_and_loses_no_other(self, tmp_path: Path) -> None:
        path = tmp_path / "answers.jsonl"
        good = completion(choice(MEDIA))
        bad = [b'{"choices": [', b"[1]", b'{"a": 1}', b"\xff", b"[" * 100_000, b'{"error": {}}']
        path.write_bytes(b"\xef\xbb\xbf" + lines(bad[0], good, b"", *bad[1:], good))
        numbers, last = [1, 4, 5, 6, 7, 8], 9
        ran = run(path)
        assert ran.status == 3
        said = ran.said.splitlines()
        assert [line.split(": ")[1] for line in said] == [f"line {n}" for n in numbers]
        assert [line.split(":")[0] for line in ran.out.splitlines()] == ["line 2", f"line {last}"]
        as_json = invoke(path, "--json")
        assert as_json.status == 3
        assert [each["line"] for each in as_json.results] == [1, 2, *numbers[1:], last]
        assert [each["line"] for each in as_json.results if each["error"]] == numbers
        assert [each["label"] for each in as_json.results if not each["error"]] == ["Media"] * 2

    def test_one_line_is_one_of_many_in_a_file_named_so(self, tmp_path: Path) -> None:
        path = tmp_path / "answers.jsonl"
        path.write_bytes(lines(completion(choice(MEDIA))))
        assert [each["line"] for each in invoke(path, "--json").results] == [1]
        assert [
            each["line"] for each in invoke("-", "--json", stdin=path.read_bytes()).results
        ] == [None]


class TestLabels:
    def test_come_from_a_file_too(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.json"
        path.write_text('{"Media": "what they say", "Sports": ""}')
        ran = invoke("-", "--labels-file", path, stdin=lines(choice(MEDIA)), labels=None)
        assert (ran.status, ran.said) == (0, "")

    @pytest.mark.parametrize(
        ("labels", "more", "words"),
        [
            (None, [], "which labels? Name them with --labels a,b,c or --labels-file"),
            ("Media", [], "--labels: at least 2 labels are needed, 1 given"),
            ("Media,media", [], "label 2 (media) is the same as"),
            ("a,b", ["--labels-file", "x"], "--labels and --labels-file: give one of the two"),
            (None, ["--labels-file", "nowhere.txt"], "nowhere.txt: No such file or directory"),
        ],
    )
    def test_that_can_not_be_used(self, labels: str | None, more: list[str], words: str) -> None:
        check_refused(invoke("-", *more, stdin=lines(choice(MEDIA)), labels=labels), words)


def check_refused(ran: Ran, words: str) -> None:
    """In one line, with nothing on standard output."""
    assert (ran.status, ran.out) == (2, "")
    (said,) = ran.said.splitlines()
    assert said.startswith("secondlook score: ")
    assert words in said


class TestWrongInput:
    @pytest.mark.parametrize(
        ("stdin", "words"),
        [
            (b"", "standard input: is empty"),
            (b"Media", "standard input: is not JSON"),
            (b'{\n "choices": [', "standard input: is not JSON"),
            (b'data: {"choices": []}\n\ndata: [DONE]\n', "a stream of events"),
            (b"\xff\xfe{", "is not UTF-8"),
            (b"[]", "is JSON, but no object"),
            (b"{}", "is no answer of a model"),
            (b'{"error": {"message": "slow down"}}', "is an error of the server"),
            (b'{"choices": [{"text": "Media"}]}', "no chat message"),
            (b'{"choices": [1]}', "can't be read"),
            (b'{"output": [], "status": "failed"}', "can't be read"),
        ],
    )
    def test_is_one_line(self, stdin: bytes, words: str) -> None:
        check_refused(invoke("-", stdin=stdin), words)

    def test_an_absent_file_and_a_folder(self, tmp_path: Path) -> None:
        check_refused(invoke(tmp_path / "absent.json"), "absent.json: No such file or directory")
        check_refused(invoke(tmp_path), "Is a directory")


def test_neither_the_sdk_nor_a_driver_nor_a_framework_nor_numpy_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "app.cli", "score", "-", "--labels", LABELS],
        cwd=ROOT,
        input=lines(choice(MEDIA)),
        capture_output=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "app.labeling.saved" in loaded
    absent = {"openai", "psycopg", "sqlalchemy", "fastapi", "redis", "celery", "numpy", "scipy"}
    assert not absent & loaded
