"""An answer's text as tokens with logprobs: by hand, as a model's tokeniser would cut it, or cut
anywhere.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from hypothesis import strategies as st

from app.domain.tokens import CLAMP, Alternative, Token

Text: TypeAlias = str | bytes
Others: TypeAlias = Mapping[str, float] | Mapping[bytes, float]

# Roughly as byte pair encodings cut: a word with one character before it, up to three digits,
# a run of punctuation, white space.
_PIECES = re.compile(r"[^\w\r\n]?[^\W\d_]+|\d{1,3}| ?[^\w\s]+|_|\s+")
_SAYS_SOMETHING = re.compile(r"\w")


def token(text: Text, p: float = 1.0, others: Others | None = None) -> Token:
    """A token of probability p, listed first, and others with theirs; a probability of 0 is -9999.

    With `others=None` nothing is listed at all, not even the token.
    """
    listed = () if others is None else ((text, p), *others.items())
    return Token(
        _bytes(text),
        _log(p),
        tuple(Alternative(_bytes(other), _log(mass)) for other, mass in listed),
    )


def tokens(*pieces: Token | str) -> tuple[Token, ...]:
    """Tokens; a plain text is one that was certain, with nothing else listed."""
    return tuple(token(piece) if isinstance(piece, str) else piece for piece in pieces)


def content_of(spelled: Sequence[Token]) -> str:
    return b"".join(each.data for each in spelled).decode()


def answer_tokens(
    content: str,
    given: Mapping[str | tuple[str, int], tuple[float, Others]] | None = None,
    *,
    p: float = 0.999,
) -> tuple[Token, ...]:
    """Plausible tokens of an answer: layout certain, each piece of a name or a value nearly so.

    Args:
        content: what the model wrote.
        given: the probability and the alternatives of a piece, by its text, or by its text and
            how many times it has stood before. Every one must be used.
        p: the probability of every other piece; `false` stands against `true`, something else
            against anything else.
    """
    left = dict(given or {})
    seen: Counter[str] = Counter()
    spelled = []
    for text in pieces_of(content):
        known = left.pop((text, seen[text]), None) or (given or {}).get(text)
        seen[text] += 1
        if known:
            left.pop(text, None)
            spelled.append(token(text, *known))
        elif _SAYS_SOMETHING.search(text):
            spelled.append(token(text, p, {_rival(text): 1 - p}))
        else:
            spelled.append(token(text, 1.0, {}))
    assert not left, f"no such piece: {list(left)}; there are {[each.data for each in spelled]}"
    return tuple(spelled)


def pieces_of(content: str) -> list[str]:
    """A text cut as a model's tokeniser would, more or less."""
    pieces = _PIECES.findall(content)
    assert "".join(pieces) == content
    return pieces


def as_logprobs(spelled: Sequence[Token]) -> list[dict[str, Any]]:
    """The tokens as `choices[0].logprobs.content` of a chat completion."""
    return [
        {
            **_entry(each.data, each.logprob),
            "top_logprobs": [_entry(other.data, other.logprob) for other in each.alternatives],
        }
        for each in spelled
    ]


def cuts(data: bytes, *, within: Sequence[tuple[int, int]] = ()) -> st.SearchStrategy[list[bytes]]:
    """Cut anywhere, also within a character, with empty pieces too.

    `within` are the stretches [start, end] in which cuts may fall; everywhere without any.
    """
    places = [at for start, end in within or [(0, len(data))] for at in range(start, end + 1)]

    def cut(at: list[int]) -> list[bytes]:
        borders = [0, *sorted(at), len(data)]
        return [data[start:end] for start, end in pairwise(borders)]

    return st.lists(st.sampled_from(places), max_size=12).map(cut)


@st.composite
def scored(draw: st.DrawFn, pieces: Sequence[bytes], others: Sequence[bytes]) -> list[Token]:
    """Pieces with probabilities, and alternatives from a pool: at each position a distribution.

    Some positions are saturated, some alternatives clamped or missing, as servers have them.
    """
    made = []
    for piece in pieces:
        listed = draw(st.lists(st.sampled_from(others), max_size=4))
        weights = draw(
            st.lists(
                st.sampled_from([1e-300, 1e-12, 0.01, 0.3, 1.0]) | st.floats(1e-3, 1.0),
                min_size=len(listed) + 1,
                max_size=len(listed) + 1,
            )
        )
        total = math.fsum(weights)
        logs = [_log(weight / total) for weight in weights]
        clamped = [CLAMP if draw(st.integers(0, 9)) == 0 else each for each in logs[1:]]
        alternatives = tuple(map(Alternative, listed, clamped))
        if draw(st.booleans()):
            alternatives = (Alternative(piece, logs[0]), *alternatives)
        made.append(Token(piece, min(logs[0], 0.0), alternatives))
    return made


def _rival(text: str) -> str:
    swapped = {"true": "false", "false": "true"}
    for one, other in swapped.items():
        if text.endswith(one):
            return text.removesuffix(one) + other
    return text[:-1] + ("7" if text[-1] != "7" else "8") if text[-1].isdigit() else f"{text[0]}zz"


def _entry(data: bytes, logprob: float) -> dict[str, Any]:
    return {"token": data.decode(errors="replace"), "bytes": list(data), "logprob": logprob}


def _bytes(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _log(p: float) -> float:
    return math.log(p) if p else CLAMP
