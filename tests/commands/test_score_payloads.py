"""Every recorded answer of real servers, scored by the command; skipped where they are not."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.processes import ROOT

SUMS = ("ambiguous", "off_label", "unseen")
FIGURES = ("confidence", "p_raw", "p_norm", "margin", *SUMS)


def payloads(shared_data: Path, name: str) -> list[dict[str, Any]]:
    path = shared_data / "payloads" / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scored(answers: Sequence[object], labels: Sequence[str]) -> list[dict[str, Any]]:
    """What the command says of each, one answer a line."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "score", "-", "--json", "--labels", ",".join(labels)],
        env={"PATH": os.environ["PATH"]},
        cwd=ROOT,
        input="".join(json.dumps(each) + "\n" for each in [*answers, {}]).encode(),
        capture_output=True,
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    # the last, which is no answer, makes lines of a single one too
    assert (done.returncode, len(results)) == (3, len(answers) + 1)
    assert [each["error"] for each in results[:-1]] == [None] * len(answers)
    assert b"Traceback" not in done.stderr
    for result in results[:-1]:
        check_bounds(result)
    return results[:-1]


def check_bounds(result: dict[str, Any]) -> None:
    """No mass is negative, and no sum of masses is above 1."""
    if result["reason"] is not None:
        assert result["detail"]
        assert {result[name] for name in (*FIGURES, "logit", "entropy")} == {None}
        return
    masses = [each["probability"] for each in result["alternatives"]]
    assert min(masses) >= 0.0
    assert all(0.0 <= result[name] <= 1.0 for name in FIGURES)
    assert 0.0 <= result["entropy"] <= math.log(len(masses) + 1) + 1e-9
    assert math.isfinite(result["logit"])
    # what was not seen is told as the rest, so the sum is 1
    assert math.fsum([*masses, *(result[name] for name in SUMS)]) <= 1 + 1e-6


def test_all_judgements_have_a_confidence(shared_data: Path) -> None:
    rows = payloads(shared_data, "payloads_alpacaeval_gpt4turbo.jsonl")
    assert len(rows) == 1264
    # each is a bare token, asked for as the only one: nearly always `m` or `M`, one label here as
    # they differ in case alone; other labels begin as alternatives do that servers really listed
    labels = ["m", "Neither", "Both", "Based on", "The model"]
    results = scored([row["choice"] for row in rows], labels)
    assert Counter(result["label"] for result in results) == {"m": 1262, "Neither": 1, "Both": 1}
    assert len({result["logit"] for result in results}) > 0.99 * len(results)
    for row, result in zip(rows, results, strict=True):
        (token,) = row["choice"]["logprobs"]["content"]
        assert result["p_raw"] == pytest.approx(math.exp(min(token["logprob"], 0.0)), rel=1e-12)


def printed(row: dict[str, Any]) -> dict[str, Any]:
    """A printed row, as the answer that it was printed from: the first token is the one sampled."""
    listed = [{"token": token, "logprob": logprob} for token, logprob in row["top_logprobs"]]
    entry = {**listed[0], "top_logprobs": listed}
    return {"message": {"content": listed[0]["token"]}, "logprobs": {"content": [entry]}}


def recorded(cassette: str) -> Any:
    """The response's body of a recorded exchange, a YAML text."""
    exchange = YAML(typ="safe").load(cassette)["interactions"][0]
    return exchange["response"]["parsed_body"]


CLASSES = ["Technology", "Politics", "Sports", "Art"]
# labels, then what each answer of the envelope comes to: its label and the reason why its
# confidence is unknown, or the confidence
ENVELOPES: dict[str, tuple[list[str], list[tuple[str | None, str | float]]]] = {
    # three fields, none of them ours
    "openai-gpt4o-structured": (["Science Fair", "Something else"], [(None, "wrong_shape")]),
    # ten tokens that begin a sentence, and no text
    "vllm-deepseek-degenerate": (["yes", "no"], [(None, "truncated")]),
    "groq-qwen3-stream-logprob-chunk": (["yes", "no"], [(None, "truncated")]),
    "openai-cookbook-classification-gpt4o-mini": (
        CLASSES,
        # the runner-up is the same label behind a space; a part of the same label; another label
        [("Technology", 1 - 2e-7), ("Politics", 1 - 2e-7), ("Art", 0.985936)],
    ),
    "openai-responses-api-gpt4o-mini-cassette": (
        ["The capital of Minas Gerais is Belo Horizonte.", "Something else"],
        # log probabilities, but no alternatives beside them
        [("The capital of Minas Gerais is Belo Horizonte.", "no_alternatives")],
    ),
}


def test_each_envelope_comes_to_what_it_should(shared_data: Path) -> None:
    rows = payloads(shared_data, "payloads_envelopes.jsonl")
    assert [row["id"] for row in rows] == list(ENVELOPES)
    for row in rows:
        match row["payload"]:
            case list(lines):
                answers = [printed(line) for line in lines]
            case str(cassette):
                answers = [recorded(cassette)]
            case envelope:
                answers = [envelope]
        labels, expected = ENVELOPES[row["id"]]
        results = scored(answers, labels)
        for result, (label, outcome) in zip(results, expected, strict=True):
            assert result["label"] == label
            if isinstance(outcome, str):
                assert result["reason"] == outcome
            else:
                assert result["confidence"] == pytest.approx(outcome, abs=1e-6)
