"""The Decisions API: questions that are answered with probabilities; what is sent, what comes."""

from __future__ import annotations

from typing import Any, Final

from app.domain import decisions
from app.domain.confidence import ConfidenceSource
from app.domain.kinds.base import LabelSchema
from app.domain.prompting import Prompt
from app.domain.unknown import Unknown, Unusable
from app.labeling.answer import Reading, UnreadableResponseError, decode_body, served_of

_COUNTS: Final = ("input_tokens", "output_tokens")


def settings(schema: LabelSchema) -> dict[str, Any]:
    """What is the same in every request of a labeler, besides its model.

    Raises:
        ValueError: the schema is none that decisions fit.
    """
    questions = schema.decision_questions()
    if questions is None:
        raise ValueError(f"decisions do not fit this schema of {schema.KIND}")
    return {"questions": [question.to_json() for question in questions]}


def turns(prompt: Prompt) -> list[dict[str, Any]]:
    """The turns of a prompt, as `input`."""
    user: Any = prompt.user
    if prompt.images:
        images = [
            {"type": "input_image", "image_url": url, "detail": "auto"} for url in prompt.images
        ]
        user = [{"type": "input_text", "text": prompt.user}, *images]
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": user}]


def read_decision(body: bytes, *, schema: LabelSchema) -> Reading:
    """Reads the answers to the schema's questions.

    Raises:
        UnreadableResponseError: the body is no decision.
    """
    decision = decode_body(body, what="decision")
    if not isinstance(decision.get("answers"), list):
        raise UnreadableResponseError("the answer is no decision")
    served = served_of(decision, finish_reason=None, names=_COUNTS)
    source = ConfidenceSource.DECISIONS
    answers = decisions.read_answers(decision["answers"], schema.decision_questions() or ())
    decided = answers if isinstance(answers, Unusable) else schema.decide(answers)
    if isinstance(answers, Unusable) or isinstance(decided, Unusable):
        unusable = decided if isinstance(decided, Unusable) else answers
        assert isinstance(unusable, Unusable)
        unknown = Unknown(unusable.reason, unusable.detail)
        return Reading(None, None, unknown, None, None, served, source)
    label, evidence = schema.encode(decided.value), _evidence(answers)
    if isinstance(decided.score, Unknown):
        return Reading(label, None, decided.score, None, evidence, served, source)
    return Reading(label, decided.score, None, None, evidence, served, source)


def _evidence(answers: tuple[decisions.Answer, ...]) -> list[Any] | None:
    """`[name, probability]` of each statement, `[name, [[option, probability], …]]` of a choice."""
    evidence: list[Any] = []
    for answer in answers:
        match answer:
            case decisions.Judged(name=name, probability=probability):
                evidence.append([name, probability])
            case decisions.Chosen(name=name, masses=masses) if not isinstance(masses, Unknown):
                evidence.append([name, [[label, mass] for label, mass in masses]])
    return evidence or None
