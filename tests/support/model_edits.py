"""Ways to spoil a good choice, each as some server was seen to, or as none should.

Every edit changes the choice in place, and leaves alone what the request did not ask for.
"""

from collections.abc import Callable
from typing import Any

from app.demo.wire import VALUE_START

Choice = dict[str, Any]


def _tokens(choice: Choice) -> list[dict[str, Any]]:
    return (choice["logprobs"] or {}).get("content") or []


def empty_content(choice: Choice) -> None:
    choice["message"]["content"] = ""
    choice["logprobs"] = None


def refusal(choice: Choice) -> None:
    choice["message"].update(content=None, refusal="I can't help with that.")
    choice["logprobs"] = None


def content_filter(choice: Choice) -> None:
    choice["message"]["content"] = None
    choice["finish_reason"] = "content_filter"
    choice["logprobs"] = None


def truncated_content(choice: Choice) -> None:
    """The token limit strikes after the first token of the label."""
    choice["finish_reason"] = "length"
    kept = _tokens(choice)[: VALUE_START + 1]
    if kept:
        choice["logprobs"]["content"] = kept
        spelled = b"".join(bytes(token["bytes"]) for token in kept)
        choice["message"]["content"] = spelled.decode(errors="replace")
    else:
        choice["message"]["content"] = choice["message"]["content"][:-3]


def no_logprobs_key(choice: Choice) -> None:
    del choice["logprobs"]


def null_logprobs(choice: Choice) -> None:
    choice["logprobs"] = None


def null_logprobs_content(choice: Choice) -> None:
    choice["logprobs"] = {"content": None, "refusal": None}


def empty_logprobs_content(choice: Choice) -> None:
    choice["logprobs"] = {"content": [], "refusal": None}


def value_logprob(value: float) -> Callable[[Choice], None]:
    """The sampled logprob of every token of the label becomes `value`; alternatives stay."""

    def edit(choice: Choice) -> None:
        for token in _tokens(choice)[VALUE_START:]:
            token["logprob"] = value

    return edit


def every_logprob(value: float) -> Callable[[Choice], None]:
    """Every sampled logprob becomes `value`, and no alternatives are given."""

    def edit(choice: Choice) -> None:
        for token in _tokens(choice):
            token.update(logprob=value, top_logprobs=[])

    return edit


def sampled_outside_top(choice: Choice) -> None:
    """The first token of the label was not among the top ones: -9999, and not in the list."""
    for token in _tokens(choice)[VALUE_START : VALUE_START + 1]:
        token["logprob"] = -9999.0
        token["top_logprobs"] = [
            other for other in token["top_logprobs"] if other["bytes"] != token["bytes"]
        ]


def alternative_logprob(value: float) -> Callable[[Choice], None]:
    """One alternative of the label's first token carries `value`."""

    def edit(choice: Choice) -> None:
        for token in _tokens(choice)[VALUE_START : VALUE_START + 1]:
            token["top_logprobs"][-1:] = [{"token": "?", "bytes": [63], "logprob": value}]

    return edit


def null_bytes(choice: Choice) -> None:
    for token in _tokens(choice):
        for entry in (token, *token["top_logprobs"]):
            entry["bytes"] = None


def no_bytes_key(choice: Choice) -> None:
    for token in _tokens(choice):
        for entry in (token, *token["top_logprobs"]):
            del entry["bytes"]


def wrong_bytes(choice: Choice) -> None:
    """The first token of the label says other bytes than the content has there."""
    for token in _tokens(choice)[VALUE_START : VALUE_START + 1]:
        token.update(token="Zzz", bytes=list(b"Zzz"))


def missing_token(choice: Choice) -> None:
    """The tokens no longer add up to the content."""
    del _tokens(choice)[VALUE_START : VALUE_START + 1]
