"""The Responses API: what is sent, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.domain.confidence import ConfidenceSource
from app.domain.prompting import Prompt
from app.domain.unknown import Unknown, UnknownReason
from app.labeling.answer import (
    REFUSED,
    Reply,
    UnreadableResponseError,
    decode_body,
    served_of,
    stop_of,
)
from app.labeling.way import Structured, Way

_NOT_SENT: Final = frozenset({"votes", "top_logprobs", "max_tokens", "reasoning_effort"})
_COUNTS: Final = ("input_tokens", "output_tokens")
# why a response is incomplete, in the words of chat completions
_FINISH: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}


def settings(
    parameters: Mapping[str, Any], *, way: Way, answer_schema: dict[str, Any] | None
) -> dict[str, Any]:
    """What is the same in every request of a labeler, besides its model."""
    body: dict[str, Any] = {
        name: value
        for name, value in parameters.items()
        if name not in _NOT_SENT and name not in way.without
    }
    if "max_tokens" in parameters:
        body["max_output_tokens"] = parameters["max_tokens"]
    if "reasoning_effort" in parameters:
        body["reasoning"] = {"effort": parameters["reasoning_effort"]}
    if "store" not in way.without:
        # an item is nobody else's to keep
        body["store"] = False
    if way.source is ConfidenceSource.LOGPROBS and "logprobs" not in way.without:
        body["include"] = ["message.output_text.logprobs"]
        body["top_logprobs"] = way.listed(parameters.get("top_logprobs"))
    if answer_schema is None:
        return body
    if way.structured is Structured.JSON_SCHEMA:
        named = {"type": "json_schema", "name": "label", "strict": True, "schema": answer_schema}
        body["text"] = {"format": named}
    elif way.structured is Structured.JSON_OBJECT:
        body["text"] = {"format": {"type": "json_object"}}
    return body


def turns(prompt: Prompt) -> list[dict[str, Any]]:
    """The turns of a prompt, as `input`."""
    user: Any = prompt.user
    if prompt.images:
        images = [
            {"type": "input_image", "image_url": url, "detail": "auto"} for url in prompt.images
        ]
        user = [{"type": "input_text", "text": prompt.user}, *images]
    listed = [{"role": "system", "content": prompt.system}, {"role": "user", "content": user}]
    if prompt.repair is not None:
        answer, words = prompt.repair
        listed.append({"role": "assistant", "content": answer})
        listed.append({"role": "user", "content": words})
    return listed


def read_response(body: bytes) -> Reply:
    """A response's text: that of its last message, where it comments first on what it will say.

    Raises:
        UnreadableResponseError: the body is no response, or says that none was made.
    """
    response = decode_body(body, what="response")
    output = response.get("output")
    if not isinstance(output, list):
        raise UnreadableResponseError("the answer is no response")
    if response.get("status") in ("failed", "cancelled", "queued", "in_progress"):
        raise UnreadableResponseError("the response was not completed")
    finish_reason = _finish_reason(response)
    served = served_of(response, finish_reason=finish_reason, names=_COUNTS)
    parts = _parts(output)
    if any(part.get("type") == "refusal" for part in parts):
        return Reply(None, None, REFUSED, served)
    texts = [part for part in parts if part.get("type") == "output_text"]
    stopped = stop_of(finish_reason)
    if not texts:
        none = Unknown(UnknownReason.NO_CHOICES, "The answer has no text.")
        return Reply(None, None, stopped or none, served)
    content = "".join(part["text"] if isinstance(part.get("text"), str) else "" for part in texts)
    return Reply(content, _listed(texts), stopped, served)


def _finish_reason(response: dict[str, Any]) -> object:
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if reason is None:
        return "stop" if response.get("status") == "completed" else None
    return _FINISH.get(reason, reason) if isinstance(reason, str) else None


def _parts(output: list[Any]) -> list[dict[str, Any]]:
    """The content of the last message; reasoning and tools are none."""
    said = [item for item in output if isinstance(item, dict) and item.get("type") == "message"]
    content = said[-1].get("content") if said else None
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _listed(texts: list[dict[str, Any]]) -> object:
    """The log probabilities of all the text; None where a part of it has none."""
    listed: list[Any] = []
    for part in texts:
        logprobs = part.get("logprobs")
        if not isinstance(logprobs, list):
            return logprobs
        listed += logprobs
    return listed
