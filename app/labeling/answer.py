"""What a model's answer comes to: a value with its confidence, or the reason why not.

The readers of the interfaces (`chat`, `responses`, `decisions`) bring what a server sent into one
form; here it is read by the schema and the source of the project.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain import stated
from app.domain.answers import FoundAnswer, find_answer
from app.domain.confidence import ConfidenceSource, evidence_to_json, read_tokens
from app.domain.kinds.base import LabelSchema, Score
from app.domain.unknown import Unknown, UnknownReason, Unusable
from app.domain.usage import Usage

_MAX_ANSWER: Final = 20_000
# Reasons after which a second try, with a word on what was wrong, may bring a usable answer.
_BEYOND_REPAIR: Final = frozenset({UnknownReason.REFUSAL, UnknownReason.CONTENT_FILTER})


class UnreadableResponseError(Exception):
    """The body is none of its interface: HTML of a proxy, JSON cut off, another protocol."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a completion says of itself; any of it may be missing."""

    model: str | None = None
    system_fingerprint: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def usage(self) -> Usage:
        """What this one call used."""
        told = self.prompt_tokens is not None and self.completion_tokens is not None
        return Usage(1, self.prompt_tokens or 0, self.completion_tokens or 0, 0 if told else 1)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server sent, whatever its interface.

    Attributes:
        content: what the model wrote; None where there is nothing to read it from.
        listed: the log probabilities of its tokens, in the form of chat completions; unchecked.
        stopped: why there is no answer in it, where its envelope says so.
        served: what it says of itself.
    """

    content: str | None
    listed: object
    stopped: Unknown | None
    served: Served


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer came to.

    Attributes:
        label: the value's text as the schema encodes it; None where the answer gives none.
        score: the confidence with what it was made from; None where it is unknown.
        unknown: why the confidence is unknown; None exactly where there is a score.
        answer: the text the model wrote, made storable and cut to 20,000 characters.
        evidence: what the confidence was made from, as JSON; None where nothing could be read.
            Of log probabilities the tokens, of a decision its probabilities by question, of
            several answers their values with counts, of a stated confidence what was stated.
        served: what the completion says of itself.
        source: how the confidence was had, or should have been.
    """

    label: str | None
    score: Score | None
    unknown: Unknown | None
    answer: str | None
    evidence: list[Any] | None
    served: Served = field(default_factory=Served)
    source: ConfidenceSource = ConfidenceSource.LOGPROBS

    @property
    def repairable(self) -> bool:
        """Whether asking once more, with a word on what was wrong, may help."""
        return (
            self.label is None
            and self.unknown is not None
            and self.unknown.reason not in _BEYOND_REPAIR
            and self.source is not ConfidenceSource.DECISIONS
        )


def read_reply(reply: Reply, *, schema: LabelSchema, text: str) -> Reading:
    """The value that a reply gives, and its confidence by the log probabilities of its tokens.

    Args:
        reply: as its interface's reader gives it.
        schema: what may be said of the item.
        text: the item's text.
    """
    said = read_value(reply, schema=schema, text=text)
    if isinstance(said, Unknown):
        return without_label(said, reply, ConfidenceSource.LOGPROBS)
    label, answer = schema.encode(said.value), storable(reply.content)
    tokens = read_tokens(reply.listed, content=said.content)
    if isinstance(tokens, Unknown):
        return Reading(label, None, tokens, answer, None, reply.served)
    score = schema.score(
        tokens, content=said.content, begin=said.begin, value=said.value, text=text
    )
    evidence = evidence_to_json(tokens)
    if isinstance(score, Unknown):
        return Reading(label, None, score, answer, evidence, reply.served)
    return Reading(label, score, None, answer, evidence, reply.served)


def read_stated(reply: Reply, *, schema: LabelSchema, text: str) -> Reading:
    """The value that a reply gives, with the probability that the model itself states."""
    source = ConfidenceSource.VERBALIZED
    if reply.stopped is not None:
        return without_label(reply.stopped, reply, source)
    found = stated.read(reply.content or "", schema=schema, text=text)
    if isinstance(found, Unusable):
        return without_label(Unknown(found.reason, found.detail), reply, source)
    label, answer = schema.encode(found.value), storable(reply.content)
    evidence = [["stated", found.confidence]]
    return Reading(label, found.score, None, answer, evidence, reply.served, source)


@dataclass(frozen=True, slots=True)
class Said:
    """A usable answer: its value, and where in the content it begins, in bytes of UTF-8."""

    value: Any
    content: str
    begin: int


def read_value(reply: Reply, *, schema: LabelSchema, text: str) -> Said | Unknown:
    """The value that a reply gives, or why it gives none."""
    if reply.stopped is not None:
        return reply.stopped
    content = reply.content or ""
    found = _found(content, schema)
    if isinstance(found, Unusable):
        return Unknown(found.reason, found.detail)
    value = schema.read(found.text, text=text)
    if isinstance(value, Unusable):
        return Unknown(value.reason, value.detail)
    return Said(value, content, found.begin)


def _found(content: str, schema: LabelSchema) -> FoundAnswer | Unusable:
    if schema.answer_schema() is not None:
        return find_answer(content)
    if not content.strip():
        return Unusable(UnknownReason.EMPTY_ANSWER, "The answer is empty.")
    return FoundAnswer(content, 0)


def without_label(unknown: Unknown, reply: Reply, source: ConfidenceSource) -> Reading:
    """The reading of a reply that gives no value."""
    return Reading(None, None, unknown, storable(reply.content), None, reply.served, source)


# for the readers of the interfaces


def decode_body(body: bytes, *, what: str) -> dict[str, Any]:
    """The JSON object that a body is.

    Args:
        body: of an answer.
        what: it should have been, for the error.

    Raises:
        UnreadableResponseError: it is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableResponseError("the answer is not JSON") from error
    if not isinstance(document, dict):
        raise UnreadableResponseError(f"the answer is no {what}")
    return document


def stop_of(reason: object) -> Unknown | None:
    """What it says of an answer that it stopped for this reason, in the words of chat."""
    if reason == "content_filter":
        return Unknown(UnknownReason.CONTENT_FILTER, "A content filter stopped the answer.")
    if reason == "length":
        return Unknown(UnknownReason.TRUNCATED, "The answer was cut off at its length limit.")
    return None


REFUSED: Final = Unknown(UnknownReason.REFUSAL, "The model refused to answer.")


def served_of(document: dict[str, Any], *, finish_reason: object, names: tuple[str, str]) -> Served:
    """What a document says of itself.

    Args:
        document: of any interface.
        finish_reason: why the answer ended.
        names: of the counts of tokens read and written, in its `usage`.
    """
    usage = document.get("usage")
    count: Callable[[str], object] = usage.get if isinstance(usage, dict) else lambda _: None
    return Served(
        model=_text(document.get("model")),
        system_fingerprint=_text(document.get("system_fingerprint")),
        finish_reason=_text(finish_reason),
        prompt_tokens=_count(count(names[0])),
        completion_tokens=_count(count(names[1])),
    )


def storable(text: str | None) -> str | None:
    """A text that the database takes, cut to 20,000 characters."""
    if text is None:
        return None
    cut = text[:_MAX_ANSWER].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return cut.encode("utf-8", "replace").decode()


def _text(value: object) -> str | None:
    return storable(value[:200]) if isinstance(value, str) else None


def _count(value: object) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if fits and isinstance(value, int) else None
