"""The other interfaces of a model server, and requests that do not tell their labels.

Whatever interface is asked, a play sees a chat request and answers with a choice of chat
completions; here it takes the form of the interface that was asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from app.demo.wire import ChatRequest, RequestError, read_request

CHAT, RESPONSES, DECISIONS = "/chat/completions", "/responses", "/decisions"


def read_any(path: str, body: Any, *, labels: Sequence[str] | None) -> ChatRequest:
    """A request to any interface as one to chat completions.

    Args:
        path: of the interface.
        body: decoded.
        labels: what there is to choose from where the request does not tell.

    Raises:
        RequestError: it can't be answered.
    """
    if path == CHAT:
        try:
            return read_request(body)
        except RequestError as error:
            if error.param != "response_format":
                raise
        return read_request(_with_labels(body, labels))
    if not isinstance(body, Mapping):
        raise RequestError("the body must be a JSON object")
    if path == RESPONSES:
        return read_request(_with_labels(_chat_of_response(body), labels))
    return read_request(_chat_of_decision(body))


def _with_labels(body: Any, labels: Sequence[str] | None) -> Any:
    """The body with a plain `response_format`: what a play needs of it is the labels."""
    if not isinstance(body, Mapping):
        return body
    found = _enum(body.get("response_format")) or labels
    return {**body, "response_format": _format(found)} if found else body


def _enum(node: object) -> list[str] | None:
    """The labels of a schema, wherever they stand in it: of an enum, or of yes/no fields."""
    if not isinstance(node, Mapping):
        return None
    properties = node.get("properties")
    if isinstance(properties, Mapping):
        if all(each == {"type": "boolean"} for each in properties.values()):
            return list(properties)
        label = properties.get("label")
        if isinstance(label, Mapping) and isinstance(label.get("enum"), list):
            return list(label["enum"])
    return next((found for each in node.values() if (found := _enum(each))), None)


def _format(labels: Sequence[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"label": {"enum": list(labels)}}}
    return {"type": "json_schema", "json_schema": {"name": "label", "schema": schema}}


def _chat_of_response(body: Mapping[str, Any]) -> dict[str, Any]:
    listed = "message.output_text.logprobs" in (body.get("include") or [])
    text_format = (body.get("text") or {}).get("format")
    return {
        "model": body.get("model"),
        "messages": _messages(body.get("input")),
        "temperature": body.get("temperature"),
        "logprobs": listed,
        "top_logprobs": body.get("top_logprobs") if listed else 0,
        "response_format": {"json_schema": text_format},
    }


def _chat_of_decision(body: Mapping[str, Any]) -> dict[str, Any]:
    questions = body.get("questions")
    if not isinstance(questions, list) or not 1 <= len(questions) <= 400:
        raise RequestError("questions must be 1 to 400", param="questions")
    labels: list[str] = []
    for question in questions:
        if question.get("type") == "choice":
            choices = question.get("choices") or []
            if not 2 <= len(choices) <= 255:
                raise RequestError("choices must be 2 to 255", param="questions")
            labels = [choice["value"] for choice in choices]
        elif question.get("type") == "predicate":
            labels.append(question["name"])
        else:
            raise RequestError("no such type of question", param="questions")
        if not question.get("instructions"):
            raise RequestError("a question needs instructions", param="questions")
    return {
        "model": body.get("model"),
        "messages": _messages(body.get("input")),
        "response_format": _format(labels),
    }


def _messages(turns: Any) -> Any:
    return [{"role": "user", "content": turns}] if isinstance(turns, str) else turns


def response_body(completion: Mapping[str, Any]) -> dict[str, Any]:
    """A completion as the Responses API says it."""
    (choice,) = completion["choices"] or [None]
    usage = completion["usage"]
    message, reason = (choice or {}).get("message") or {}, (choice or {}).get("finish_reason")
    content: list[dict[str, Any]] = []
    if message.get("refusal"):
        content.append({"type": "refusal", "refusal": message["refusal"]})
    elif message.get("content") is not None:
        logprobs = choice.get("logprobs") or {}
        content.append(
            {
                "type": "output_text",
                "text": message["content"],
                "annotations": [],
                "logprobs": logprobs.get("content") or [],
            }
        )
    stops = {"length": "max_output_tokens", "content_filter": "content_filter"}
    incomplete = stops.get(str(reason))
    thinking = {"id": f"rs_{uuid4().hex}", "type": "reasoning", "summary": []}
    said = {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if incomplete else "completed",
        "content": content,
    }
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": completion["model"],
        "status": "incomplete" if incomplete else "completed",
        "error": None,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "output": [thinking, *([said] if choice is not None else [])],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(usage["prompt_tokens"], usage["completion_tokens"]),
    }


def _usage(read: int, written: int) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def decision_body(
    body: Mapping[str, Any], probabilities: Mapping[str, float], *, model: str
) -> dict[str, Any]:
    """The answers to the questions of a request, by the probability of each label.

    Of predicates they need not sum to 1.
    """
    answers = [_decided(question, probabilities) for question in body["questions"]]
    return {"answers": answers, "model": model, "usage": _usage(100, len(answers))}


def _decided(question: Mapping[str, Any], probabilities: Mapping[str, float]) -> dict[str, Any]:
    if question["type"] == "predicate":
        return {
            "type": "predicate",
            "name": question["name"],
            "probability": probabilities[question["name"]],
        }
    values = [choice["value"] for choice in question["choices"]]
    chosen = max(values, key=lambda value: probabilities[value])
    return {
        "type": "choice",
        "name": question["name"],
        "choice": chosen,
        "confidence": probabilities[chosen],
        "probabilities": [
            {"value": value, "probability": probabilities[value]} for value in values
        ],
    }
