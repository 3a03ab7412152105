"""The OpenAI chat-completions wire format for a model whose label distribution is known.

A language model writes a label token by token, and each token's probability is conditional on
those before it. Whoever knows the whole distribution over the labels can therefore say what such
a model would report: group the labels by their next token, and the token's probability is the
group's mass over the mass of all labels that are still possible (the chain rule). The product
along a label's tokens is then exactly the label's probability.

The demo model and the test model server both answer through this module; neither is a language
model, and both say so in their model id.
"""

import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import uuid4

from pydantic_core import to_json

MAX_TOP_LOGPROBS = 20  # the limit of OpenAI's endpoint

Tokenizer = Callable[[str], tuple[bytes, ...]]

# What stands before and after the label in {"label":"…"}. None of it depends on the item, so each
# of these tokens has probability 1.
_OPENING = (b'{"', b"label", b'":"')
_CLOSING = b'"}'
VALUE_START = len(_OPENING)  # the position of the label's first token


class RequestError(ValueError):
    """The request cannot be answered; becomes a 400 with OpenAI's error body."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """The parts of a chat-completions request that a label model honours."""

    model: str
    item: str
    labels: tuple[str, ...]
    logprobs: bool
    top_logprobs: int
    temperature: float
    seed: int | None
    prompt_bytes: int


def read_request(body: Any) -> ChatRequest:
    """Read a decoded request body; RequestError names the field that cannot be honoured.

    The closed label set is the `enum` of the property `label` in `response_format`. An absent
    temperature is 1, as at OpenAI.
    """
    if not isinstance(body, Mapping):
        raise RequestError("the body must be a JSON object")
    if body.get("stream"):
        raise RequestError("streaming is not supported", param="stream")
    if body.get("n") not in (None, 1):
        raise RequestError("one choice a request", param="n")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list that is not empty", param="messages")
    texts = [_message_text(message) for message in messages]
    logprobs, top_logprobs = _read_logprobs(body)
    return ChatRequest(
        model=str(body.get("model", "")),
        item=_item_text(messages, texts),
        labels=_read_labels(body.get("response_format")),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        temperature=_read_temperature(body.get("temperature")),
        seed=body["seed"] if isinstance(body.get("seed"), int) else None,
        prompt_bytes=sum(len(text) for text in texts),
    )


def _read_logprobs(body: Mapping[str, Any]) -> tuple[bool, int]:
    logprobs = body.get("logprobs") or False
    top_logprobs = body.get("top_logprobs") or 0
    if not isinstance(logprobs, bool):
        raise RequestError("logprobs must be true or false", param="logprobs")
    if not isinstance(top_logprobs, int) or not 0 <= top_logprobs <= MAX_TOP_LOGPROBS:
        raise RequestError(f"top_logprobs must be 0 to {MAX_TOP_LOGPROBS}", param="top_logprobs")
    if top_logprobs and not logprobs:
        raise RequestError("top_logprobs needs logprobs", param="top_logprobs")
    return logprobs, top_logprobs


def _read_temperature(value: Any) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        raise RequestError("temperature must be 0 to 2", param="temperature")
    return float(value)


def _read_labels(response_format: Any) -> tuple[str, ...]:
    try:
        labels = response_format["json_schema"]["schema"]["properties"]["label"]["enum"]
    except (KeyError, TypeError):
        labels = None
    if not isinstance(labels, list) or not labels:
        raise RequestError(
            "response_format must be a json_schema whose property `label` has an enum",
            param="response_format",
        )
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise RequestError("the enum must hold distinct strings", param="response_format")
    try:
        "".join(labels).encode()
    except UnicodeEncodeError:
        raise RequestError("a label is not valid Unicode", param="response_format") from None
    return tuple(labels)


def _message_text(message: Any) -> str:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part["text"]
            for part in content
            if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )
    raise RequestError("a message has no text", param="messages")


def _item_text(messages: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> str:
    """The text in the last `<item>…</item>` that a user message has, else the last user message.

    The item need not stand in the last message: one that asks to mend an answer follows it.
    """
    said = [
        text for message, text in zip(messages, texts, strict=True) if message.get("role") == "user"
    ]
    if not said:
        raise RequestError("there is no user message", param="messages")
    for text in reversed(said):
        end = text.rfind("</item>")
        start = text.rfind("<item>", 0, max(end, 0))
        if start >= 0:
            return text[start + len("<item>") : end].strip()
    return said[-1].strip()


def byte_pieces(text: str, *, size: int = 4) -> tuple[bytes, ...]:
    """Cut text into pieces of at most `size` UTF-8 bytes.

    Like the byte-level tokenizers of real models it gives labels several tokens, lets them share
    their first ones, and may cut a character in two.
    """
    raw = text.encode()
    return tuple(raw[start : start + size] for start in range(0, len(raw), size))


def choose(
    probabilities: Mapping[str, float], *, temperature: float, seed: int | None = None
) -> str:
    """The most probable label at temperature 0 (the first of equals), otherwise a sampled one.

    The same seed samples the same label; with no seed every call draws anew.
    """
    top = max(probabilities, key=lambda label: probabilities[label])
    if temperature == 0:
        return top
    peak = probabilities[top]
    weights = [(p / peak) ** (1 / temperature) for p in probabilities.values()]
    # a reproducible draw for a demo, nothing that must not be guessed
    return random.Random(seed).choices(list(probabilities), weights)[0]  # noqa: S311


def label_answer(
    probabilities: Mapping[str, float],
    chosen: str,
    *,
    tokenizer: Tokenizer = byte_pieces,
    top_logprobs: int = MAX_TOP_LOGPROBS,
    logprobs: bool = True,
) -> dict[str, Any]:
    """One entry of `choices` that answers `{"label": chosen}` with the logprobs of its tokens.

    Probabilities are non-negative and finite, not all 0, and are taken relative to their sum; a
    label outside the request's enum may be among them. `top_logprobs` is how many tokens a
    position reports, most probable first; a token of probability 0 is never reported, unless it
    was chosen, when its logprob is -9999.0 as OpenAI writes it. Probabilities near 1 keep their
    precision: the logprob is computed from what is missing to 1.
    """
    masses = tuple(probabilities.values())
    if not all(0 <= mass < math.inf for mass in masses) or not any(masses):
        raise ValueError("probabilities must be non-negative and finite, and not all 0")
    content = f'{{"label":"{_escape(chosen)}"}}'
    tokens = None
    if logprobs:
        tokens = [_token(raw, [(raw, 0.0)], top_logprobs) for raw in _OPENING]
        for raw, branches in _path(tuple(probabilities), chosen, tokenizer):
            tokens.append(_token(raw, _branch_logprobs(branches, masses), top_logprobs))
    return {
        "index": 0,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": None if tokens is None else {"content": tokens, "refusal": None},
        "finish_reason": "stop",
    }


def _escape(label: str) -> str:
    return json.dumps(label, ensure_ascii=False)[1:-1]


_Branches = tuple[tuple[bytes, tuple[int, ...]], ...]


@lru_cache(maxsize=4096)
def _path(
    labels: tuple[str, ...], chosen: str, tokenizer: Tokenizer
) -> tuple[tuple[bytes, _Branches], ...]:
    """Per position: the chosen token, and every possible token with the labels it leads to."""
    sequences = [(*tokenizer(_escape(label)), _CLOSING) for label in labels]
    alive = list(range(len(labels)))
    path = []
    for position, raw in enumerate(sequences[labels.index(chosen)]):
        branches: dict[bytes, list[int]] = {}
        for index in alive:
            branches.setdefault(sequences[index][position], []).append(index)
        path.append((raw, tuple((token, tuple(led)) for token, led in branches.items())))
        alive = branches[raw]
    return tuple(path)


def _branch_logprobs(branches: _Branches, masses: Sequence[float]) -> list[tuple[bytes, float]]:
    if len(branches) == 1:
        return [(branches[0][0], 0.0)]
    sums = [math.fsum([masses[index] for index in led]) for _, led in branches]
    total = math.fsum(sums)
    logprobs = []
    for position, (token, _) in enumerate(branches):
        share = sums[position]
        if share == 0:
            logprob = -math.inf
        elif share > total / 2:
            rest = math.fsum(sums[:position] + sums[position + 1 :])
            logprob = math.log1p(-rest / total)
        else:
            logprob = math.log(share / total)
        logprobs.append((token, logprob))
    return sorted(logprobs, key=lambda entry: (-entry[1], entry[0]))


def _token(raw: bytes, ranked: list[tuple[bytes, float]], top_logprobs: int) -> dict[str, Any]:
    sampled = next(logprob for token, logprob in ranked if token == raw)
    return {
        **_token_name(raw),
        "logprob": max(sampled, -9999.0),
        "top_logprobs": [
            {**_token_name(token), "logprob": logprob}
            for token, logprob in ranked[:top_logprobs]
            if logprob > -math.inf
        ],
    }


@lru_cache(maxsize=4096)
def _token_name(raw: bytes) -> Mapping[str, Any]:
    # A token that is a part of a character has no text of its own: servers put U+FFFD there.
    return {"token": raw.decode(errors="replace"), "bytes": list(raw)}


def completion(
    choice: dict[str, Any],
    request: ChatRequest,
    *,
    model: str,
    fingerprint: str,
) -> dict[str, Any]:
    """A whole chat.completion around one choice, with an id of its own."""
    content = (choice.get("logprobs") or {}).get("content")
    answer = choice["message"]["content"] or ""
    prompt_tokens = -(-request.prompt_bytes // 4)
    answer_tokens = len(content) if content else -(-len(answer) // 4)
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": fingerprint,
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer_tokens,
            "total_tokens": prompt_tokens + answer_tokens,
        },
    }


def encode(body: Mapping[str, Any]) -> bytes:
    """Compact JSON, in which a NaN or an infinity stands bare, as careless servers write it."""
    # five times as fast as json.dumps, which would be a third of the cost of an answer
    return to_json(body, inf_nan_mode="constants")


def error_body(
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> dict[str, Any]:
    """OpenAI's error envelope."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def models_body(model: str, *, owner: str) -> dict[str, Any]:
    """The answer of GET /v1/models: the one model there is."""
    return {
        "object": "list",
        "data": [{"id": model, "object": "model", "created": 0, "owned_by": owner}],
    }
