"""What the kinds share that a decisions endpoint can be asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from app.domain.confidence import LabelMass
from app.domain.decisions import Judged
from app.domain.kinds.base import Part, Score
from app.domain.unknown import Unknown, UnknownReason

RESOLUTION: Final = 2.0**-24
"""The least doubt that is taken of a probability of 1, which a server may have rounded to."""


def score_masses(
    masses: Sequence[LabelMass], *, labels: Sequence[str], chosen: str
) -> Score | Unknown:
    """The confidence of one label of a closed set, from the probabilities of all.

    1 - p is summed from the other labels, and where none of them has any it is what is missing to
    1, at least `RESOLUTION`: so the log-odds are finite and distinct where p saturates. Options
    that are no labels are off-label, and doubt too, as in `ChoiceScore`.

    Args:
        masses: as the endpoint listed them, summing to at most 1.
        labels: the set.
        chosen: one of it.

    Unknown: the chosen label has no probability of its own.
    """
    by_label = dict.fromkeys(labels, 0.0)
    off_label = 0.0
    for label, mass in masses:
        if label in by_label:
            by_label[label] += mass
        else:
            off_label += mass
    own = by_label[chosen]
    if own <= 0.0:
        return Unknown(
            UnknownReason.NO_ALTERNATIVES, "The label that was chosen has no probability."
        )
    seen = math.fsum(by_label.values())
    unseen = max(0.0, 1.0 - seen - off_label)
    others = math.fsum(mass for label, mass in by_label.items() if label != chosen)
    among_labels = others or max(unseen, RESOLUTION)
    doubt = among_labels + off_label
    ranked = sorted(by_label.items(), key=lambda each: -each[1])
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    shares = [mass / seen for mass in by_label.values() if mass > 0.0]
    return Score(
        confidence=own / (own + doubt),
        logit=math.log(own) - math.log(doubt),
        p_raw=own,
        p_norm=own / (own + among_labels),
        margin=(ranked[0][1] - second) / seen,
        entropy=math.fsum(-share * math.log(share) for share in shares),
        off_label=off_label,
        ambiguous=0.0,
        unseen=unseen,
        alternatives=tuple(LabelMass(label, mass) for label, mass in ranked),
    )


def part_of(judged: Judged) -> Part:
    """Whether a label applies, by the likelier of the two; at even odds it does."""
    held = judged.probability
    confidence, doubt = max(held, 1.0 - held), min(held, 1.0 - held)
    logit = math.log(confidence) - math.log(max(doubt, RESOLUTION))
    return Part(judged.name, held >= 0.5, confidence, logit)
