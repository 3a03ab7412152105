"""What model calls used, as their servers tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """The calls of one item's turn, whatever came of them.

    Attributes:
        calls: requests that were sent.
        prompt_tokens: tokens read, in all answers that told it.
        completion_tokens: tokens written, in all answers that told it.
        untold: answers that did not tell; what they cost is not known.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    untold: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.untold + other.untold,
        )
