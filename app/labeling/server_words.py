"""What a model server says of a failure, in its own words, so far as others may read them.

Error messages quote: a key, or a part of what was asked. They are kept where people look for what
is wrong with an endpoint, so neither may be in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

MOST_SAID: Final = 300
"""So many characters are said of an endpoint at most."""
# What these answer is about the endpoint; 400, 413 and 422 are about the request, and quote it.
_ABOUT_THE_ENDPOINT: Final = frozenset({401, 403, 404, 429})
# more than is shown, so that nothing is cut before it is looked at
_LOOKED_AT: Final = 2 * MOST_SAID
_MASK: Final = "***"
# a key by its prefix, one that is masked in part, a header's value, what else is long and random
_KEYS: Final = re.compile(
    r"""
    (?i:\bbearer\s+)[^\s"'`,;)\]}>]+
    | (?i:\b(?:sk|slk|pk|rk|gsk|hf|xai|pplx|nvapi|whsec|api[-_]?key)[-_=])[^\s"'`,;)\]}>]+
    | \bAIza[\w-]+
    | [\w-]*\*\*[\w*-]*
    | \b(?=[A-Za-z_]*\d)(?=[\d_]*[A-Za-z])\w{32,}
    """,
    re.VERBOSE,
)
# Parts of a request that are the service's own words or names, and images, whose bytes nobody
# spells out in a message.
_NOT_QUOTED: Final = frozenset(
    {
        "model", "role", "type", "detail", "image_url", "format", "response_format", "questions",
        "include", "reasoning", "reasoning_effort",
    }
)  # fmt: skip
# A run of the request's text of WINDOW + STEP - 1 characters in a message is always found.
_WINDOW: Final = 16
_STEP: Final = 8


def words_of(
    status: int, document: object, *, asked: Mapping[str, Any], key: str | None = None
) -> str:
    """The `error.message` of an answer that was no success; "" where it has none to be shown.

    Args:
        status: of the answer. Only those that are about the endpoint are heard, not what is said
            of a request (400, 413, 422).
        document: the answer's.
        asked: the request. A message that quotes any text of it is dropped.
        key: that was sent; masked, as is all that looks like one.
    """
    if status not in _ABOUT_THE_ENDPOINT and status < 500:
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if not isinstance(message, str):
        return ""
    message = " ".join(message[:_LOOKED_AT].split())
    if _quotes(message.casefold(), asked):
        return ""
    if key:
        message = message.replace(key, _MASK)
    return printable(_KEYS.sub(_MASK, message))


def printable(text: str) -> str:
    """A text without what can't be shown, cut to `MOST_SAID` characters."""
    shown = "".join(each for each in text if each.isprintable())
    return shown if len(shown) <= MOST_SAID else f"{shown[: MOST_SAID - 1]}…"


def _quotes(message: str, asked: Mapping[str, Any]) -> bool:
    windows = {
        message[start : start + _WINDOW]
        for start in range(0, max(1, len(message) - _WINDOW + 1), _STEP)
    }
    for text in _texts(asked):
        said = " ".join(text.casefold().split())
        if len(said) < _WINDOW + _STEP:
            if said and re.search(rf"(?<!\w){re.escape(said)}(?!\w)", message):
                return True
        elif any(window in said for window in windows):
            return True
    return False


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if name not in _NOT_QUOTED:
                yield from _texts(each)
