"""Money: what an answer costs by its labeler's prices, and what one is going to cost.

Amounts are whole millionths of the prices' currency, rounded up: a sum of costs is never less than
what was spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from app.domain.usage import Usage

MICROS: Final = 1_000_000
COST_PREFIX: Final = "cost."
TOTAL: Final = f"{COST_PREFIX}total"
CALLS: Final = f"{COST_PREFIX}calls"
LABELS: Final = f"{COST_PREFIX}labels"
# An estimate follows what was used, but one odd answer must not spoil it.
_LEAST_FACTOR, _GREATEST_FACTOR = 0.25, 20.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What a labeler's tokens cost: micros a token, which is the currency a million of them.

    Attributes:
        input, output: exact.
        currency: of both.
    """

    input: Fraction
    output: Fraction
    currency: str

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Prices | None:
        """A labeler's prices; None where it has none.

        A price is what its decimal digits say: the float nearest to .1 would cost a micro more.
        """
        if not stored:
            return None
        exact = [
            Fraction(str(stored.get(f"{name}_per_million", 0))) for name in ("input", "output")
        ]
        return cls(exact[0], exact[1], str(stored.get("currency", "USD")))

    def micros(self, *, input_tokens: int, output_tokens: int) -> int:
        """What these tokens cost, rounded up."""
        return math.ceil(self.input * input_tokens + self.output * output_tokens)


def cost_micros(usage: Usage, prices: Prices, *, untold_call: int) -> int:
    """What an item's turn cost.

    Args:
        usage: of all its calls.
        prices: of the labeler.
        untold_call: micros for each answer that did not tell what it used: an estimate, since
            nothing would be a lie.
    """
    told = prices.micros(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)
    return told + usage.untold * untold_call


@dataclass(frozen=True, slots=True)
class Estimator:
    """How far estimates were off so far, and so what the next one is multiplied by.

    Attributes:
        estimated, used: sums over the turns that were settled, in tokens or in micros.
    """

    estimated: int = 0
    used: int = 0

    def observe(self, *, estimated: int, used: int) -> Estimator:
        """With one more turn. Older ones count less, since prompts and items change."""
        if self.estimated > 100 * max(1, estimated):
            return Estimator(self.estimated // 2 + estimated, self.used // 2 + used)
        return Estimator(self.estimated + estimated, self.used + used)

    @property
    def factor(self) -> float:
        """In [0.25, 20]; 1 before anything was settled."""
        if not self.estimated:
            return 1.0
        return min(max(self.used / self.estimated, _LEAST_FACTOR), _GREATEST_FACTOR)

    def correct(self, estimate: int) -> int:
        """An estimate as it should have been, rounded up."""
        return math.ceil(estimate * self.factor)


def month_counter(month: str) -> str:
    """The counter of what a month in UTC cost, "2026-11", in micros."""
    return f"{COST_PREFIX}{month}"
