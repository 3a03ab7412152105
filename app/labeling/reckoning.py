"""What an item's turn is going to take, and what it cost: tokens, and money where they have prices.

An estimate is made from the size of the prompt, and follows what earlier turns of the labeler used:
so repairs, several votes and an odd tokenizer are in it after a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.budget import Estimator, Prices, cost_micros
from app.domain.content import TemplateError, images_of, text_of
from app.domain.rates import Cost, Settlement, estimate_tokens
from app.domain.usage import Usage

# An answer is a short JSON object, unless a labeler's `max_tokens` says that it is shorter.
_ANSWER_TOKENS = 64
FEW = 4
"""A labeler of which no turn has ended is tried with so many items at once."""


class Reckoning:
    """Of one labeler, for as long as its process lives.

    Attributes:
        prices: None where what it uses costs nothing that is known.
        tried: whether a turn has ended, so that estimates are more than guesses.
    """

    def __init__(
        self,
        *,
        system: str,
        template: str | None,
        calls: int,
        max_tokens: int | None,
        prices: Prices | None,
    ) -> None:
        """The labeler's.

        Args:
            system: the part of the prompt that is the same for all items.
            template: of items that are fields.
            calls: requests that a turn takes when all goes well.
            max_tokens: the most that an answer may have, None where that is not said.
            prices: of its tokens.
        """
        self.prices = prices
        self.tried = False
        self._system_bytes = len(system.encode())
        self._template = template
        self._calls = calls
        self._answer_tokens = min(max_tokens or _ANSWER_TOKENS, _ANSWER_TOKENS)
        self._tokens = Estimator()
        self._money = Estimator()
        self._items = self._item_tokens = 0

    def cost(self, content: Mapping[str, Any]) -> Cost:
        """What an item is going to take of its endpoint's limits."""
        tokens = self._tokens.correct(self._calls * self._call_tokens(content))
        self._items, self._item_tokens = self._items + 1, self._item_tokens + tokens
        return Cost(self._calls, tokens)

    def cost_of_any(self) -> Cost:
        """The same of an item that is not known yet: the mean of those that were."""
        if not self._items:
            return Cost(self._calls, self._calls * self._call_tokens({}))
        return Cost(self._calls, -(-self._item_tokens // self._items))

    def micros(self, content: Mapping[str, Any]) -> int:
        """What an item is going to cost; 0 where there are no prices."""
        return self._money.correct(self._micros(content))

    def spent(self, content: Mapping[str, Any], usage: Usage) -> int:
        """What an item's turn did cost, with an estimate for what the server did not tell."""
        if self.prices is None:
            return 0
        untold = -(-self._micros(content) // self._calls) if usage.untold else 0
        return cost_micros(usage, self.prices, untold_call=untold)

    def settle(self, content: Mapping[str, Any], usage: Usage, *, taken: Cost) -> Settlement:
        """What a turn used beyond what was taken for it."""
        self.observe(content, usage)
        if not usage.calls:
            return Settlement(-taken.requests, -taken.tokens)
        requests = usage.calls - taken.requests
        if usage.untold:
            return Settlement(requests=requests)
        return Settlement(requests, _tokens_of(usage) - taken.tokens)

    def observe(self, content: Mapping[str, Any], usage: Usage) -> None:
        """Lets later estimates follow what a turn used, where that is known."""
        self.tried = True
        if usage.untold or not usage.calls:
            return
        self._tokens = self._tokens.observe(
            estimated=self._calls * self._call_tokens(content), used=_tokens_of(usage)
        )
        if self.prices is not None:
            self._money = self._money.observe(
                estimated=self._micros(content), used=self.spent(content, usage)
            )

    def _micros(self, content: Mapping[str, Any]) -> int:
        if self.prices is None:
            return 0
        prompt = self._call_tokens(content) - self._answer_tokens
        return self._calls * self.prices.micros(
            input_tokens=prompt, output_tokens=self._answer_tokens
        )

    def _call_tokens(self, content: Mapping[str, Any]) -> int:
        try:
            text = text_of(content, template=self._template)
        except (TemplateError, AttributeError, KeyError, TypeError):
            # it is not going to be asked about at all
            text = ""
        return estimate_tokens(
            prompt_bytes=self._system_bytes + len(text.encode("utf-8", "replace")),
            images=len(images_of(content)) if "images" in content else 0,
            answer_tokens=self._answer_tokens,
        )


def _tokens_of(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens
