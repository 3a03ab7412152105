"""Answers of models that somebody saved: whatever wraps them, to the label and its confidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.domain.answers import FoundAnswer, find_text
from app.domain.bare import begins_another
from app.domain.kinds.base import Score
from app.domain.kinds.single_choice.saved import SavedChoiceSchema
from app.domain.labels import LabelSet
from app.domain.unknown import Unknown, UnknownReason
from app.labeling.answer import Reading, Reply, UnreadableResponseError, read_reply
from app.labeling.chat import read_chat
from app.labeling.decisions import read_decision
from app.labeling.responses import read_response


class NoAnswerError(ValueError):
    """A value that is no answer of a model in any form that is known here; says what it is."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a saved answer came to.

    Attributes:
        label: None where the answer gives none.
        score: None where the confidence is unknown.
        unknown: why; None exactly where there is a score.
        source: how the confidence was had; None where it is unknown.
        model: as the answer names it.
    """

    label: str | None
    score: Score | None
    unknown: Unknown | None
    source: str | None
    model: str | None


def score_saved(answer: object, *, labels: LabelSet) -> Scored:
    """Reads and scores an answer, of which the first choice counts.

    Args:
        answer: the decoded JSON: a chat completion, one of its choices, an answer of the Responses
            or the Decisions API, or a line of a batch's output that holds one of them.
        labels: what could be chosen.

    Raises:
        NoAnswerError: it is none of these.
    """
    if not isinstance(answer, Mapping):
        raise NoAnswerError("is JSON, but no object")
    answer = _unwrapped(answer)
    if _is_chunk(answer):
        return Scored(
            None,
            None,
            Unknown(UnknownReason.TRUNCATED, "This is one chunk of a stream, no whole answer."),
            None,
            _model(answer),
        )
    try:
        reading = _read(answer, labels)
    except UnreadableResponseError as error:
        raise NoAnswerError(f"can't be read: {error}") from error
    return Scored(
        reading.label,
        reading.score,
        reading.unknown,
        None if reading.score is None else str(reading.source),
        reading.served.model,
    )


def _unwrapped(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer within a line of a batch's output, or around a bare choice."""
    response = answer.get("response")
    if isinstance(response, Mapping) and isinstance(response.get("body"), Mapping):
        answer = response["body"]
    if isinstance(answer.get("message"), Mapping) or "delta" in answer:
        return {"choices": [answer]}
    return answer


def _read(answer: Mapping[str, Any], labels: LabelSet) -> Reading:
    if isinstance(answer.get("choices"), list):
        first = answer["choices"][0] if answer["choices"] else None
        if isinstance(first, Mapping) and not isinstance(first.get("message"), Mapping):
            raise NoAnswerError("has choices, but no chat message in the first one")
        reply = read_chat(_encoded(answer))
    elif isinstance(answer.get("output"), list):
        reply = read_response(_encoded(answer))
    elif isinstance(answer.get("answers"), list):
        return read_decision(_encoded(answer), schema=SavedChoiceSchema(labels))
    elif answer.get("error"):
        raise NoAnswerError("is an error of the server, no answer of a model")
    else:
        raise NoAnswerError(
            "is no answer of a model: neither a chat completion nor one of its choices, "
            "no answer of the Responses or the Decisions API"
        )
    return read_reply(_whole(reply, labels), schema=SavedChoiceSchema(labels), text="")


def _whole(reply: Reply, labels: LabelSet) -> Reply:
    """The reply, taken as ended where its length limit cut it off right behind a bare label.

    That is how labels of one token are asked for. By the rule for all alternatives, what leaves
    one label possible is that label; one that begins another is not.
    """
    if reply.stopped is None or reply.stopped.reason is not UnknownReason.TRUNCATED:
        return reply
    found = find_text(reply.content or "")
    label = labels.parse(found.text) if isinstance(found, FoundAnswer) else None
    if label is None or begins_another(label.name, labels):
        return reply
    return replace(reply, stopped=None)


def _is_chunk(answer: Mapping[str, Any]) -> bool:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return answer.get("object") == "chat.completion.chunk" or (
        isinstance(first, Mapping) and "delta" in first and "message" not in first
    )


def _model(answer: Mapping[str, Any]) -> str | None:
    model = answer.get("model")
    return model if isinstance(model, str) else None


def _encoded(answer: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(answer).encode()
    except RecursionError as error:
        raise NoAnswerError("is nested too deep") from error
