"""Chat completions: what is sent, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.domain.confidence import ConfidenceSource
from app.domain.kinds.base import LabelSchema
from app.domain.prompting import Prompt
from app.domain.unknown import Unknown, UnknownReason
from app.labeling.answer import (
    REFUSED,
    Reading,
    Reply,
    UnreadableResponseError,
    decode_body,
    read_reply,
    served_of,
    stop_of,
)
from app.labeling.way import Structured, Way

# they are ours, or said otherwise
_NOT_SENT: Final = frozenset({"votes", "top_logprobs"})
_COUNTS: Final = ("prompt_tokens", "completion_tokens")


def settings(
    parameters: Mapping[str, Any], *, way: Way, answer_schema: dict[str, Any] | None
) -> dict[str, Any]:
    """What is the same in every request of a labeler, besides its model.

    Structure is asked for by a schema rather than a tool call: those carry no log probabilities.
    """
    body: dict[str, Any] = {
        name: value
        for name, value in parameters.items()
        if name not in _NOT_SENT and name not in way.without
    }
    if "max_tokens" in way.without and "max_tokens" in parameters:
        body["max_completion_tokens"] = parameters["max_tokens"]
    if way.source is ConfidenceSource.LOGPROBS and "logprobs" not in way.without:
        body["logprobs"] = True
        body["top_logprobs"] = way.listed(parameters.get("top_logprobs"))
    if answer_schema is None:
        return body
    if way.structured is Structured.JSON_SCHEMA:
        named = {"name": "label", "strict": True, "schema": answer_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif way.structured is Structured.JSON_OBJECT:
        body["response_format"] = {"type": "json_object"}
    return body


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The turns of a prompt."""
    user: Any = prompt.user
    if prompt.images:
        images = [{"type": "image_url", "image_url": {"url": url}} for url in prompt.images]
        user = [{"type": "text", "text": prompt.user}, *images]
    turns = [{"role": "system", "content": prompt.system}, {"role": "user", "content": user}]
    if prompt.repair is not None:
        answer, words = prompt.repair
        turns.append({"role": "assistant", "content": answer})
        turns.append({"role": "user", "content": words})
    return turns


def read_completion(body: bytes, *, schema: LabelSchema, text: str) -> Reading:
    """Reads a chat completion about an item of this text, its confidence by log probabilities.

    Raises:
        UnreadableResponseError: the body is no chat completion.
    """
    return read_reply(read_chat(body), schema=schema, text=text)


def read_chat(body: bytes) -> Reply:
    """A chat completion's first choice.

    Thinking that stands beside the content (`reasoning_content` at llama.cpp, vLLM and SGLang,
    `reasoning` at Ollama) is no part of it.

    Raises:
        UnreadableResponseError: the body is no chat completion.
    """
    completion = decode_body(body, what="chat completion")
    choices = completion.get("choices")
    if not isinstance(choices, list):
        raise UnreadableResponseError("the answer is no chat completion")
    if not all(isinstance(choice, dict) for choice in choices):
        raise UnreadableResponseError("the answer's choices are no objects")
    if not choices:
        served = served_of(completion, finish_reason=None, names=_COUNTS)
        none = Unknown(UnknownReason.NO_CHOICES, "The answer has no choices.")
        return Reply(None, None, none, served)
    choice = choices[0]
    finish_reason = choice.get("finish_reason")
    served = served_of(completion, finish_reason=finish_reason, names=_COUNTS)
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    content = message.get("content")
    logprobs = choice.get("logprobs")
    return Reply(
        content=content if isinstance(content, str) else "",
        listed=logprobs.get("content") if isinstance(logprobs, dict) else None,
        stopped=REFUSED if message.get("refusal") else stop_of(finish_reason),
        served=served,
    )
