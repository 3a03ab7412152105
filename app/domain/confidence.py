"""From token logprobs to a distribution over a closed label set, by the chain rule.

What is counted where, and why: docs/decisions/0004-confidence.md. Logs are natural.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from app.domain.labels import LabelSet
from app.domain.prefixes import LabelPrefixes, field_layout, value_offset
from app.domain.tokens import (
    Alternative,
    Token,
    evidence_from_json,
    evidence_to_json,
    read_tokens,
)
from app.domain.unknown import Unknown, UnknownReason
from app.domain.walk import EXCESS, RESOLUTION, Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EXCESS",
    "RESOLUTION",
    "Alternative",
    "ChoiceScore",
    "ConfidenceSource",
    "LabelMass",
    "Token",
    "Unknown",
    "UnknownReason",
    "evidence_from_json",
    "evidence_to_json",
    "read_tokens",
    "score_choice",
]


class ConfidenceSource(StrEnum):
    """How a confidence was had."""

    LOGPROBS = "logprobs"  # token log probabilities of chat completions or responses
    DECISIONS = "decisions"  # probabilities of a decisions endpoint
    SELF_CONSISTENCY = "self_consistency"  # share of several answers that say the same
    VERBALIZED = "verbalized"  # what the model itself said
    EXTERNAL = "external"  # came with a label that was made elsewhere


class LabelMass(NamedTuple):
    """The probability that was seen to go to a label, before any normalisation."""

    label: str
    mass: float


@dataclass(frozen=True, slots=True)
class ChoiceScore:
    """The confidence of a chosen label, and the distribution it was chosen from.

    Masses are probabilities under the model, given the answer's layout before the value; their
    sum `masses` + `ambiguous` + `off_label` is at most 1 but for rounding.

    Attributes:
        label: the label that was sampled, not always the likeliest one.
        confidence: the label's share of all the mass that was seen, in [0, 1]: what is on other
            labels, may be on one, or can become none is doubt.
        logit: log of confidence / (1 - confidence), with 1 - confidence summed, not subtracted.
            Finite, and distinct where the confidence is 1.0: rank and compare with a threshold
            by this.
        p_raw: probability of the very tokens of the value, closing quote included; in (0, 1].
        log_p_raw: its log: the sum of the tokens' logprobs.
        p_norm: the label's share of the mass that is, or may be, on a label; in [0, 1], and no
            less than the confidence.
        margin: mass of the likeliest label less that of the second, as shares like p_norm.
        entropy: in nats, of these shares, the ambiguous mass taken as one more outcome.
        off_label: mass on what can become no label.
        ambiguous: mass on what can still become several labels.
        unseen: 1 less all the mass above: what the server did not list; at least 0.
        masses: mass of each label in the set's order.
    """

    label: str
    confidence: float
    logit: float
    p_raw: float
    log_p_raw: float
    p_norm: float
    margin: float
    entropy: float
    off_label: float
    ambiguous: float
    unseen: float
    masses: tuple[LabelMass, ...]

    @property
    def alternatives(self) -> tuple[LabelMass, ...]:
        """All labels by mass, greatest first; equal ones in the set's order."""
        return tuple(sorted(self.masses, key=lambda each: -each.mass))


def score_choice(
    tokens: Sequence[Token],
    *,
    data: bytes,
    begin: int,
    field: str,
    labels: LabelSet,
    chosen: str,
) -> ChoiceScore | Unknown:
    """The confidence of the label that an answer of one field gives, from the answer's tokens.

    The tokens of the value are walked with the probability W of having come this far, 1 at first.
    At each of them every other alternative adds W·p to the label if its bytes leave exactly one,
    to `ambiguous` if they leave several, to `off_label` if they leave none; then W is multiplied
    by the probability of the token itself, and what is left of it at the closing quote goes to
    the label. A token that also holds some of the layout before the value is one of the value's.

    Unknown: evidence that cannot tell labels apart (no alternatives, clamped, not a distribution).

    Args:
        tokens: they spell `data`.
        data: what the model wrote.
        begin: where in it the answer's JSON begins.
        field: the name of its only field.
        labels: what could be chosen.
        chosen: the label that was, as the set spells it.
    """
    layout = field_layout(field)
    start = value_offset(data[begin:], layout=layout)
    if start is None:
        return Unknown(UnknownReason.WRONG_SHAPE, "The field's name is written with escapes.")
    walk = Walk(label_prefixes(labels), [0.0] * len(labels), gap=begin, layout=layout)
    unknown = walk.along(tokens, data=data, start=begin + start)
    return unknown or score_walk(walk, names=labels.names, own=labels.index(chosen))


@lru_cache(maxsize=256)
def label_prefixes(labels: LabelSet) -> LabelPrefixes:
    """The set's names to be recognised by their beginning; kept, as every answer needs it."""
    return LabelPrefixes(labels.names)


def score_walk(walk: Walk, *, names: Sequence[str], own: int) -> ChoiceScore:
    """The score of the choice that a finished walk has shared out, `own` what was chosen."""
    walk.by_label[own] += walk.reached
    masses = tuple(map(LabelMass, names, walk.by_label))
    rivals = math.fsum(mass for index, mass in enumerate(walk.by_label) if index != own)
    seen = math.fsum(walk.by_label) + walk.ambiguous
    unseen = max(0.0, 1.0 - seen - walk.off_label)
    mass = walk.by_label[own]
    among_labels = rivals + walk.ambiguous or _unseen_doubt(walk, unseen=unseen)
    doubt = among_labels + walk.off_label
    second, first = sorted(walk.by_label)[-2:]
    shares = [share / seen for share in (*walk.by_label, walk.ambiguous) if share > 0.0]
    return ChoiceScore(
        label=names[own],
        confidence=mass / (mass + doubt),
        logit=math.log(mass) - math.log(doubt),
        p_raw=math.exp(walk.log_p_raw),
        log_p_raw=walk.log_p_raw,
        p_norm=mass / (mass + among_labels),
        margin=(first - second) / seen,
        entropy=math.fsum(-share * math.log(share) for share in shares),
        off_label=walk.off_label,
        ambiguous=walk.ambiguous,
        unseen=unseen,
        masses=masses,
    )


def _unseen_doubt(walk: Walk, *, unseen: float) -> float:
    """The most that another label can have had when none was listed at all.

    It is among what is unseen, known no better than single precision; and each of the others is
    at every position no likelier than the least likely token listed there.
    """
    least = (len(walk.by_label) - 1) * math.fsum(walk.unlisted)
    return max(min(max(unseen, RESOLUTION), least), sys.float_info.min)
