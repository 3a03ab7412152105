"""The confidence of a label that was made elsewhere, as its producer gives it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from app.domain.confidence import LabelMass
from app.domain.kinds.base import LabelSchema, Score, ValueFaultError
from app.domain.unknown import Unknown, UnknownReason

SURE: Final = 2.0**-53
"""The least doubt, from 1 to the next smaller double: a producer that says 1.0 says no more."""

EXCESS: Final = 1e-3
"""How far above 1 a producer's probabilities may sum: they come rounded."""


def score_external(
    schema: LabelSchema,
    value: Any,
    *,
    confidence: float | None,
    probabilities: Mapping[str, float] | None,
) -> Score | Unknown:
    """The score of a value made elsewhere.

    Args:
        schema: the value's.
        value: as the schema spells it.
        confidence: probability in [0, 1] that its producer gives it, or None.
        probabilities: of all values, by label, of a kind that chooses one; or None. They need not
            sum to 1: what they leave is doubt. By them saturated confidences still differ.

    Unknown where neither is given and the value carries no confidence itself.

    Raises:
        ValueFaultError: probabilities that are none, of labels that are none, or besides a
            confidence; the pointer begins with `/confidence` or `/probabilities`.
    """
    if probabilities is not None:
        if confidence is not None:
            raise ValueFaultError("/confidence", "is given twice, here and by the probabilities")
        return _by_probabilities(schema, value, probabilities)
    if confidence is None:
        carried = schema.score_given(value)
        return carried or Unknown(
            UnknownReason.NOT_GIVEN, "Its producer gave no confidence with it."
        )
    return Score(confidence=confidence, logit=_logit(confidence, 1.0 - confidence))


def _by_probabilities(schema: LabelSchema, value: Any, probabilities: Mapping[str, float]) -> Score:
    if not schema.CONFUSION:
        raise ValueFaultError("/probabilities", f"a {schema.KIND} has none by label")
    known = frozenset(schema.part_names)
    for name, probability in probabilities.items():
        if name not in known:
            raise ValueFaultError("/probabilities", "names a label that is none of the project's")
        if not 0.0 <= probability <= 1.0:
            raise ValueFaultError("/probabilities", "holds what is no probability")
    if value not in probabilities:
        raise ValueFaultError("/probabilities", "does not hold the label's own")
    total = math.fsum(probabilities.values())
    if total > 1.0 + EXCESS:
        raise ValueFaultError("/probabilities", "sums to more than 1")
    scale = 1.0 / max(total, 1.0)
    masses = sorted(
        (LabelMass(name, probabilities.get(name, 0.0) * scale) for name in schema.part_names),
        key=lambda each: -each.mass,
    )
    own = probabilities[value] * scale
    left = max(0.0, 1.0 - total)
    doubt = math.fsum(each.mass for each in masses if each.label != value) + left
    seen = math.fsum(each.mass for each in masses)
    shares = [each.mass / seen for each in masses if each.mass > 0.0] if seen else []
    return Score(
        confidence=min(own / (own + doubt), 1.0) if own + doubt else 0.0,
        logit=_logit(own, doubt),
        margin=(masses[0].mass - masses[1].mass) / seen if seen else 0.0,
        entropy=math.fsum(-share * math.log(share) for share in shares),
        unseen=left,
        alternatives=tuple(masses),
    )


def _logit(mass: float, doubt: float) -> float:
    """Log-odds; a mass or a doubt of 0 is read as the smallest that one can tell from it."""
    least = SURE if doubt == 0.0 else 0.0
    return math.log(max(mass, SURE)) - math.log(max(doubt, least, 1e-300))
