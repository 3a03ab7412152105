"""The confidence of a text that nobody gave a choice for."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from app.domain.kinds.base import Score
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason
from app.domain.walk import EXCESS, RESOLUTION

_LEAST_DOUBT: Final = sys.float_info.min


def score_tokens(tokens: Sequence[Token], *, begin: int, end: int) -> Score | Unknown:
    """The score of the text that stands at these bytes, from every token with a byte of it.

    The confidence is the geometric mean of the tokens' probabilities, exp(mean logprob): it ranks
    texts of different lengths beside one another and is no probability that the text is right,
    nor that it would be written again. The logit is its log-odds, with 1 - p by expm1. A token
    whose logprob is 0 is known no better than single precision: its doubt is taken to be what its
    alternatives have, at most 2^-24.

    Figures: `mean_logprob` and `min_logprob`, at most 0, of the logprobs as they came.

    Unknown: a token that is clamped; a position that sums to well over 1; tokens that are all of
    logprob 0 and none of them with an alternative.
    """
    logprobs: list[float] = []
    log_beliefs: list[float] = []
    compared = False
    for token in _within(tokens, begin, end):
        logprob = min(token.logprob, 0.0)  # above 0 by rounding
        chosen = math.exp(logprob)
        if chosen == 0.0:
            return Unknown(
                UnknownReason.CLAMPED_LOGPROB, "A sampled token is outside what the server lists."
            )
        others = math.fsum(math.exp(other.logprob) for other in token.others())
        if chosen + others > 1.0 + EXCESS:
            return Unknown(
                UnknownReason.NOT_A_DISTRIBUTION, "A position's probabilities sum to more than 1."
            )
        compared = compared or logprob < 0.0 or others > 0.0
        logprobs.append(logprob)
        log_beliefs.append(logprob or -min(others, RESOLUTION))
    if not compared:
        return Unknown(
            UnknownReason.NO_ALTERNATIVES, "All logprobs are 0 and no alternatives are listed."
        )
    mean = math.fsum(log_beliefs) / len(log_beliefs)
    return Score(
        confidence=math.exp(mean),
        logit=mean - math.log(max(-math.expm1(mean), _LEAST_DOUBT)),
        figures={
            "mean_logprob": math.fsum(logprobs) / len(logprobs),
            "min_logprob": min(logprobs),
        },
    )


def _within(tokens: Sequence[Token], begin: int, end: int) -> Iterator[Token]:
    at = 0
    for token in tokens:
        first, at = at, at + len(token.data)
        if first < end and at > begin and token.data:
            yield token
