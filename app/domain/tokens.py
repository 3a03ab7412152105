"""Token evidence: reading it from a model's answer, and keeping it so that it can be read again.

The form is that of OpenAI's chat completions, `choices[0].logprobs.content`. It comes from
somebody else's server, so anything may be anything.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from app.domain.unknown import Unknown, UnknownReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLAMP: Final = -9999.0
"""What servers write for a token outside their top list, or for log 0, which JSON cannot say."""

ROUNDING: Final = 1e-6
"""How far above 0 a logprob may be: x - logsumexp(x), in single precision at |x| of about 20."""


class Alternative(NamedTuple):
    """A token that could have stood here: its bytes and its natural log probability.

    At or below `CLAMP` the token has no mass. (A tuple, since an answer has hundreds of them and
    a frozen dataclass takes three times as long to make.)
    """

    data: bytes
    logprob: float

    @property
    def clamped(self) -> bool:
        """Whether the server says no more than that the token is unlikely."""
        return self.logprob <= CLAMP


class Token(NamedTuple):
    """A sampled token, its natural log probability, and the alternatives the server listed.

    The alternatives may or may not include the token itself, and two of them may have the same
    bytes: different tokens can have the same text.
    """

    data: bytes
    logprob: float
    alternatives: tuple[Alternative, ...]

    def others(self) -> tuple[Alternative, ...]:
        """The alternatives without the sampled token, which is that of its bytes nearest to it."""
        same = [
            (abs(alternative.logprob - self.logprob), position)
            for position, alternative in enumerate(self.alternatives)
            if alternative.data == self.data
        ]
        if not same:
            return self.alternatives
        _, position = min(same)
        return self.alternatives[:position] + self.alternatives[position + 1 :]


class _UnreadableError(Exception):
    def __init__(self, reason: UnknownReason, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


def read_tokens(content_logprobs: object, *, content: str) -> tuple[Token, ...] | Unknown:
    """The tokens of an answer, from the decoded `logprobs.content`; their bytes are the content's.

    `bytes` may be null or missing: then the token's text is taken, in UTF-8. -inf of an
    alternative is read as -9999, which says the same and can be stored as JSON.

    Unknown: no, malformed, positive (by more than rounding), NaN or, of a sampled token, infinite
    logprobs; or tokens whose bytes, put together, are not the content.
    """
    if content_logprobs is None or content_logprobs == []:
        return Unknown(UnknownReason.NO_LOGPROBS, "The answer has no logprobs.")
    if not isinstance(content_logprobs, list):
        return Unknown(UnknownReason.MALFORMED_LOGPROBS, "The logprobs are not a list.")
    tokens = []
    for position, entry in enumerate(content_logprobs):
        try:
            tokens.append(_token(entry))
        except _UnreadableError as error:
            return Unknown(error.reason, f"Token {position}: {error.detail}")
    if not spells(tokens, content):
        return Unknown(UnknownReason.BYTES_DIFFER, "The tokens do not add up to the content.")
    return tuple(tokens)


def spells(tokens: Iterable[Token], content: str) -> bool:
    """Whether the tokens' bytes, put together, are the content; never one with lone surrogates."""
    try:
        data = content.encode()
    except UnicodeEncodeError:
        return False
    return b"".join([token.data for token in tokens]) == data


def _token(entry: object) -> Token:
    if not isinstance(entry, dict):
        raise _UnreadableError(UnknownReason.MALFORMED_LOGPROBS, "not an object")
    logprob = _logprob(entry)
    if logprob == -math.inf:
        raise _UnreadableError(
            UnknownReason.INFINITE_LOGPROB, "it was sampled with a logprob of -inf"
        )
    listed = entry.get("top_logprobs") or []
    if not isinstance(listed, list):
        raise _UnreadableError(UnknownReason.MALFORMED_LOGPROBS, "top_logprobs is not a list")
    return Token(_data(entry), logprob, tuple([_alternative(each) for each in listed]))


def _alternative(entry: object) -> Alternative:
    if not isinstance(entry, dict):
        raise _UnreadableError(UnknownReason.MALFORMED_LOGPROBS, "an alternative is not an object")
    logprob = _logprob(entry)
    return Alternative(_data(entry), CLAMP if logprob == -math.inf else logprob)


def _logprob(entry: dict[str, Any]) -> float:
    logprob = entry.get("logprob")
    if type(logprob) is int:  # bool is no number here
        try:
            logprob = float(logprob)
        except OverflowError:
            raise _UnreadableError(
                UnknownReason.MALFORMED_LOGPROBS, "a logprob is no finite number"
            ) from None
    if type(logprob) is not float:
        raise _UnreadableError(UnknownReason.MALFORMED_LOGPROBS, "a logprob is not a number")
    if logprob <= 0.0:
        return logprob
    if math.isnan(logprob):
        raise _UnreadableError(UnknownReason.NAN_LOGPROB, "a logprob is NaN")
    if logprob > ROUNDING:
        raise _UnreadableError(UnknownReason.POSITIVE_LOGPROB, "a logprob is above 0")
    return logprob


def _data(entry: dict[str, Any]) -> bytes:
    data = entry.get("bytes")
    if type(data) is list:
        try:
            return bytes(data)
        except (TypeError, ValueError):  # not integers, or not in 0..255
            raise _UnreadableError(
                UnknownReason.MALFORMED_LOGPROBS, "bytes is not a list of bytes"
            ) from None
    text = entry.get("token")
    if data is not None or not isinstance(text, str):
        raise _UnreadableError(UnknownReason.MALFORMED_LOGPROBS, "neither bytes nor text")
    # A lone surrogate becomes bytes that are no UTF-8, hence part of no content and no label.
    return text.encode("utf-8", "surrogatepass")


def evidence_to_json(tokens: Sequence[Token]) -> list[Any]:
    """The tokens as JSON that PostgreSQL takes and `evidence_from_json` reads back exactly.

    A token is `[data, logprob, [data, logprob, data, logprob, …]]`, its alternatives flat. Data
    is text where it is UTF-8 without NUL, else `{"base64": …}`.
    """
    return [
        [
            _data_to_json(token.data),
            token.logprob,
            [
                value
                for alternative in token.alternatives
                for value in (_data_to_json(alternative.data), alternative.logprob)
            ],
        ]
        for token in tokens
    ]


def evidence_from_json(evidence: Sequence[Any]) -> tuple[Token, ...]:
    """The tokens that `evidence_to_json` was given.

    Raises:
        ValueError, TypeError: this was not written by `evidence_to_json`.
    """
    return tuple(
        Token(
            _data_from_json(data),
            float(logprob),
            tuple(
                Alternative(_data_from_json(other), float(other_logprob))
                for other, other_logprob in zip(listed[::2], listed[1::2], strict=True)
            ),
        )
        for data, logprob, listed in evidence
    )


def _data_to_json(data: bytes) -> str | dict[str, str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        pass
    else:
        if "\0" not in text:
            return text
    return {"base64": base64.b64encode(data).decode("ascii")}


def _data_from_json(data: str | dict[str, str]) -> bytes:
    return data.encode() if isinstance(data, str) else base64.b64decode(data["base64"])
