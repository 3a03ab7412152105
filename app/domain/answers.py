"""The JSON answer within what a model wrote.

A server that honours `response_format` sends the object alone. Others put prose or a code fence
around it, or think aloud first. The object is taken where there is exactly one; its place is kept,
so that the tokens that spell it can be told from those around it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from app.domain.unknown import UnknownReason, Unusable

_WHITE_SPACE: Final = " \t\n\r"
_THOUGHT: Final = "</think>"
_THINKS: Final = "<think>"
# Prose with more braces than that is no answer, and each of them costs a try.
_MOST_TRIES: Final = 50


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """The answer within what a model wrote.

    Attributes:
        text: the answer; of a JSON object from brace to brace.
        begin: where it begins, in bytes of the whole text's UTF-8.
    """

    text: str
    begin: int


class _RepeatedNameError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # of two fields of one name a dict would keep the last
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedNameError
    return found


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object)


def find_answer(content: str) -> FoundAnswer | Unusable:
    """The only JSON object that the content has, after any thinking."""
    found = find_text(content)
    if isinstance(found, Unusable):
        return found
    if _is_other_json(found.text):
        return Unusable(UnknownReason.WRONG_SHAPE, "The answer is JSON, but no object.")
    place = _only_object(found.text)
    if isinstance(place, Unusable):
        return place
    first, last = place
    return FoundAnswer(found.text[first:last], found.begin + len(_encode(found.text[:first])))


def find_text(content: str) -> FoundAnswer | Unusable:
    """All that the content says after any thinking, without the white space around it."""
    thought = content.rfind(_THOUGHT)
    if thought < 0 and content.lstrip().startswith(_THINKS):
        return Unusable(UnknownReason.TRUNCATED, "The answer stops within its thinking.")
    begin = 0 if thought < 0 else thought + len(_THOUGHT)
    text = content[begin:].lstrip()
    if not text:
        return Unusable(UnknownReason.EMPTY_ANSWER, "The answer is empty.")
    return FoundAnswer(text.rstrip(), len(_encode(content[: len(content) - len(text)])))


def decode_answer(answer: str) -> Any:
    """The JSON of an answer that `find_answer` found; no object in it has a name twice."""
    return _DECODER.decode(answer)


def _only_object(text: str) -> tuple[int, int] | Unusable:
    found: list[tuple[int, int]] = []
    cut = False
    position = text.find("{")
    for _ in range(_MOST_TRIES):
        if position < 0 or len(found) > 1:
            break
        end = position + 1
        try:
            _, end = _DECODER.raw_decode(text, position)
            found.append((position, end))
        except _RepeatedNameError:
            return Unusable(UnknownReason.WRONG_SHAPE, "A field of the answer stands in it twice.")
        except json.JSONDecodeError as error:
            cut = cut or _stops(error, text)
        except (ValueError, RecursionError):  # longer than a number may be, deeper than we go
            return Unusable(UnknownReason.NOT_JSON, "The answer is not JSON.")
        position = text.find("{", end)
    if len(found) > 1:
        return Unusable(UnknownReason.NOT_JSON, "The answer has more than one JSON object.")
    if found:
        return found[0]
    if cut:
        return Unusable(UnknownReason.TRUNCATED, "The answer stops within its JSON.")
    return Unusable(UnknownReason.NOT_JSON, "The answer is not JSON.")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _stops(error: json.JSONDecodeError, text: str) -> bool:
    """Whether what is missing is the end."""
    unterminated = error.msg.startswith("Unterminated string")
    return unterminated or error.pos >= len(text.rstrip(_WHITE_SPACE))


def _is_other_json(text: str) -> bool:
    if text.startswith("{"):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
