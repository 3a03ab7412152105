"""From the bytes of a model server to a label with its confidence, or to the reason why not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from app.domain.answers import FoundAnswer, find_answer
from app.domain.confidence import ConfidenceSource, evidence_to_json, read_tokens
from app.domain.kinds.base import LabelSchema, Score
from app.domain.unknown import Unknown, UnknownReason, Unusable

_MAX_ANSWER = 20_000
# Reasons after which a second try, with a word on what was wrong, may bring a usable answer.
_REPAIRABLE = frozenset(
    {
        UnknownReason.NO_CHOICES,
        UnknownReason.TRUNCATED,
        UnknownReason.EMPTY_ANSWER,
        UnknownReason.NOT_JSON,
        UnknownReason.WRONG_SHAPE,
        UnknownReason.LABEL_OUTSIDE_SCHEMA,
        UnknownReason.TOO_LONG,
        UnknownReason.QUOTE_NOT_FOUND,
        UnknownReason.QUOTE_AMBIGUOUS,
    }
)


class UnreadableResponseError(Exception):
    """The body is no chat completion: HTML of a proxy, JSON cut off, another protocol."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a completion says of itself; any of it may be missing."""

    model: str | None = None
    system_fingerprint: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer came to.

    Attributes:
        label: the value's text as the schema encodes it; None where the answer gives none.
        score: the confidence with what it was made from; None where it is unknown.
        unknown: why the confidence is unknown; None exactly where there is a score.
        answer: the text the model wrote, made storable and cut to 20,000 characters.
        evidence: the tokens as JSON; None where there were none that could be read.
        served: what the completion says of itself.
    """

    label: str | None
    score: Score | None
    unknown: Unknown | None
    answer: str | None
    evidence: list[Any] | None
    served: Served = field(default_factory=Served)

    @property
    def repairable(self) -> bool:
        """Whether asking once more may help."""
        return self.unknown is not None and self.unknown.reason in _REPAIRABLE

    @property
    def source(self) -> ConfidenceSource:
        return ConfidenceSource.LOGPROBS


def read_completion(body: bytes, *, schema: LabelSchema, text: str) -> Reading:
    """Reads a chat completion about an item of this text.

    Raises:
        UnreadableResponseError: the body is no chat completion.
    """
    completion = _completion(body)
    served = _served(completion)
    choices = completion["choices"]
    if not choices:
        return _without_label(
            Unknown(UnknownReason.NO_CHOICES, "The answer has no choices."), None, served
        )
    choice = choices[0]
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    content = content if isinstance(content, str) else ""
    stopped = _stopped(choice, message)
    if stopped is not None:
        return _without_label(stopped, content, served)
    logprobs = choice.get("logprobs")
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    return _read(content, listed, schema=schema, text=text, served=served)


def _read(
    content: str, listed: object, *, schema: LabelSchema, text: str, served: Served
) -> Reading:
    """The value and its confidence in what the model wrote, with the tokens listed for it."""
    found = _found(content, schema)
    if isinstance(found, Unusable):
        return _without_label(Unknown(found.reason, found.detail), content, served)
    value = schema.read(found.text, text=text)
    if isinstance(value, Unusable):
        return _without_label(Unknown(value.reason, value.detail), content, served)
    label, answer = schema.encode(value), _storable(content)
    tokens = read_tokens(listed, content=content)
    if isinstance(tokens, Unknown):
        return Reading(label, None, tokens, answer, None, served)
    score = schema.score(tokens, content=content, begin=found.begin, value=value, text=text)
    evidence = evidence_to_json(tokens)
    if isinstance(score, Unknown):
        return Reading(label, None, score, answer, evidence, served)
    return Reading(label, score, None, answer, evidence, served)


def _found(content: str, schema: LabelSchema) -> FoundAnswer | Unusable:
    if schema.answer_schema() is not None:
        return find_answer(content)
    if not content.strip():
        return Unusable(UnknownReason.EMPTY_ANSWER, "The answer is empty.")
    return FoundAnswer(content, 0)


def _completion(body: bytes) -> dict[str, Any]:
    try:
        completion = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableResponseError("the answer is not JSON") from error
    if not isinstance(completion, dict) or not isinstance(completion.get("choices"), list):
        raise UnreadableResponseError("the answer is no chat completion")
    if not all(isinstance(choice, dict) for choice in completion["choices"]):
        raise UnreadableResponseError("the answer's choices are no objects")
    return completion


def _stopped(choice: dict[str, Any], message: object) -> Unknown | None:
    if isinstance(message, dict) and message.get("refusal"):
        return Unknown(UnknownReason.REFUSAL, "The model refused to answer.")
    reason = choice.get("finish_reason")
    if reason == "content_filter":
        return Unknown(UnknownReason.CONTENT_FILTER, "A content filter stopped the answer.")
    if reason == "length":
        return Unknown(UnknownReason.TRUNCATED, "The answer was cut off at its length limit.")
    return None


def _without_label(unknown: Unknown, content: str | None, served: Served) -> Reading:
    return Reading(None, None, unknown, _storable(content), None, served)


def _storable(text: str | None) -> str | None:
    if text is None:
        return None
    cut = text[:_MAX_ANSWER].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return cut.encode("utf-8", "replace").decode()


def _served(completion: dict[str, Any]) -> Served:
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    choices = completion["choices"]
    return Served(
        model=_text(completion.get("model")),
        system_fingerprint=_text(completion.get("system_fingerprint")),
        finish_reason=_text(choices[0].get("finish_reason")) if choices else None,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _text(value: object) -> str | None:
    return _storable(value[:200]) if isinstance(value, str) else None


def _count(value: object) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if fits and isinstance(value, int) else None
