"""Asking a model for a value together with the probability that it is right.

The answer of the kind stands in another JSON object: {"answer": …, "confidence": 0.9}. What models
state ranks worse than anything else known of them (13 to 15 distinct values on real logs), so it is
asked for only where a labeler says so.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from app.domain.answers import decode_answer, find_answer
from app.domain.kinds.base import LabelSchema, Score
from app.domain.unknown import UnknownReason, Unusable

RESOLUTION: Final = 2.0**-24
"""How near to 0 and 1 a stated probability is taken for the log-odds, which must be finite."""

_WRAPPED: Final = (
    "Give that as the field `answer` of one JSON object, whose field `confidence` is the "
    "probability that the answer is right, from 0 to 1."
)
_WRONG: Final = Unusable(
    UnknownReason.WRONG_SHAPE,
    "The answer is not an object of an answer and a confidence from 0 to 1.",
)


@dataclass(frozen=True, slots=True)
class Stating:
    """A schema as it is asked for a value with its probability; see `prompting.Asks`."""

    schema: LabelSchema

    @property
    def task(self) -> str:
        return self.schema.task

    @property
    def described(self) -> str:
        return self.schema.described

    @property
    def form(self) -> str:
        return f"{self.schema.form}\n{_WRAPPED}"

    @property
    def repair(self) -> str:
        return f"{self.schema.repair}\n{_WRAPPED}"

    def answer(self, value: Any) -> str:
        """An example; what it says of its confidence is no example."""
        answer = self.schema.answer(value)
        if self.schema.answer_schema() is None:
            answer = json.dumps(answer, ensure_ascii=False)
        return f'{{"answer": {answer}, "confidence": …}}'

    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of the whole answer; what the inner one defines moves to the outer."""
        inner = dict(self.schema.answer_schema() or {"type": "string"})
        defined: dict[str, Any] = {
            name: inner.pop(name) for name in ("$defs", "definitions") if name in inner
        }
        return {
            "type": "object",
            "properties": {"answer": inner, "confidence": {"type": "number"}},
            "required": ["answer", "confidence"],
            "additionalProperties": False,
            **defined,
        }


@dataclass(frozen=True, slots=True)
class Stated:
    """A value with the probability that the model stated."""

    value: Any
    confidence: float

    @property
    def score(self) -> Score:
        """Its score, whose log-odds are those of the probability kept from 0 and from 1."""
        kept = min(max(self.confidence, RESOLUTION), 1.0 - RESOLUTION)
        return Score(confidence=self.confidence, logit=math.log(kept) - math.log1p(-kept))


def read(content: str, *, schema: LabelSchema, text: str) -> Stated | Unusable:
    """What an answer to `Stating` says.

    Strict: another field, a confidence that is no number from 0 to 1, a percentage or a word is no
    answer.

    Args:
        content: what the model wrote, thinking and code fences included.
        schema: of the value.
        text: the item's text.
    """
    found = find_answer(content)
    if isinstance(found, Unusable):
        return found
    match decode_answer(found.text):
        case {"answer": answer, "confidence": confidence, **others} if not others:
            pass
        case _:
            return _WRONG
    if type(confidence) not in {int, float} or not 0 <= confidence <= 1:
        return _WRONG
    if schema.answer_schema() is not None:
        if not isinstance(answer, dict):
            return _WRONG
        answer = json.dumps(answer, ensure_ascii=False)
    elif not isinstance(answer, str):
        return _WRONG
    value = schema.read(answer, text=text)
    return value if isinstance(value, Unusable) else Stated(value, float(confidence))
