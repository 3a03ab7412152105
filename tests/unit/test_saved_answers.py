"""Whatever JSON is saved as an answer, it is scored or refused in words."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.labels import LabelSet
from app.labeling.saved import NoAnswerError, Scored, score_saved

LABELS = LabelSet.of(["yes", "no", "not sure"])
ENTRY = {
    "token": "no",
    "bytes": [110, 111],
    "logprob": -0.5,
    "top_logprobs": [
        {"token": "no", "logprob": -0.5, "bytes": None},
        {"token": "yes", "logprob": -1.5},
    ],
}
END = {"token": "\n", "logprob": -0.1, "top_logprobs": [{"token": "t sure", "logprob": -3.0}]}
CHOICE = {
    "finish_reason": "stop",
    "message": {"content": "no\n", "refusal": None},
    "logprobs": {"content": [ENTRY, END]},
}
TEXT = {"type": "output_text", "text": "no\n", "logprobs": [ENTRY, END]}
WHOLE: list[dict[str, Any]] = [
    {"object": "chat.completion", "model": "m", "choices": [CHOICE]},
    CHOICE,
    {
        "object": "response",
        "status": "completed",
        "incomplete_details": None,
        "output": [{"type": "message", "content": [TEXT]}],
    },
    {
        "model": "m",
        "answers": [
            {
                "type": "choice",
                "choice": "no",
                "probabilities": [{"value": "no", "probability": 0.7}],
            }
        ],
    },
    {"custom_id": "1", "response": {"status_code": 200, "body": {"choices": [CHOICE]}}},
]
# what may stand where something else should
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1e400, -1e400, math.nan, 10**400, -9999.0, "", "no", "\ud800"),
    *('{"label": "no"}', "<think>", "length", "content_filter", "incomplete", [], {}, [[]], [{}]),
    *([None], {"content": []}, [256], [-1], "chat.completion.chunk", "output_text", "choice"),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a document."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """An answer with something else in up to three places, or something missing."""
    document: Any = {"it": copy.deepcopy(draw(st.sampled_from(WHOLE)))}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(document)[1:]))
        parent = document
        for key in way:
            parent = parent[key]
        if draw(st.booleans()):
            parent[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
        else:
            del parent[last]
        if "it" not in document:
            return None
    return document["it"]


def check(answer: object) -> None:
    try:
        scored = score_saved(answer, labels=LABELS)
    except NoAnswerError:
        return
    assert isinstance(scored, Scored)
    assert (scored.score is None) is (scored.unknown is not None)
    assert scored.label in {None, *LABELS.names}
    if scored.score is not None:
        masses = [each.mass for each in scored.score.alternatives]
        rest = scored.score.ambiguous or 0.0, scored.score.off_label or 0.0
        assert min([*masses, *rest]) >= 0.0
        assert math.fsum([*masses, *rest]) <= 1 + 1e-6
        assert 0.0 <= scored.score.confidence <= 1.0
        assert math.isfinite(scored.score.logit)


def test_each_form_is_scored_as_it_is() -> None:
    for answer in WHOLE:
        scored = score_saved(json.loads(json.dumps(answer)), labels=LABELS)
        assert scored.label == "no"
        assert scored.score is not None, scored.unknown


def test_one_with_anything_else_in_any_place_is_scored_or_refused_in_words() -> None:
    for whole in WHOLE:
        for *way, last in places(whole)[1:]:
            for odd in ODD:
                answer: Any = copy.deepcopy(whole)
                parent = answer
                for key in way:
                    parent = parent[key]
                parent[last] = copy.deepcopy(odd)
                check(answer)


@settings(max_examples=200, deadline=None)
@given(spoilt())
def test_a_spoilt_one_is_scored_or_refused_in_words(answer: object) -> None:
    check(answer)


def test_deep_nesting_is_refused() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    check({"choices": [{"message": {"content": deep}}]})
