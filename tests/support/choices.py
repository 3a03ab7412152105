"""A content of tokens scored as a single choice, in one step."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.answers import find_answer
from app.domain.confidence import ChoiceScore, Token, score_choice
from app.domain.kinds.single_choice import SingleChoiceSchema
from app.domain.labels import LabelSet
from app.domain.unknown import Unknown, Unusable


def score_single_choice(
    tokens: Sequence[Token], *, content: str, labels: LabelSet
) -> ChoiceScore | Unknown:
    """The confidence of the label that the content answers with, or why there is none."""
    found = find_answer(content)
    if isinstance(found, Unusable):
        return Unknown(found.reason, found.detail)
    name = SingleChoiceSchema(labels).read(found.text, text="")
    if isinstance(name, Unusable):
        return Unknown(name.reason, name.detail)
    return score_choice(
        tokens,
        data=content.encode(),
        begin=found.begin,
        field=SingleChoiceSchema.FIELD,
        labels=labels,
        chosen=name,
    )
