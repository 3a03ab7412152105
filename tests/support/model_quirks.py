"""Servers as they are: what real ones do with a good request, each seen in their own answers.

As plays, so that any of them can stand behind any item. What is refused is refused in the words of
the server that does; what is answered is a good answer in the server's own dress.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.model_edits import Choice
from tests.support.model_plays import Answer, Play, Turn, as_asked, json_response

# refusals: (status, document), in the words of whoever says it
AZURE_TOP_LOGPROBS = (
    400,
    {
        "error": {
            "message": "Invalid value for 'top_logprobs': must be less than or equal to 5.",
            "type": "invalid_request_error",
            "param": "top_logprobs",
            "code": None,
        }
    },
)
VLLM_TOP_LOGPROBS = (
    400,
    {
        "object": "error",
        "message": "Requested sample logprobs of 20, which is greater than max allowed: 10",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
)
OPENAI_NO_LOGPROBS = (
    403,
    {
        "error": {
            "message": "You are not allowed to request logprobs from this model.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    },
)
GROQ_NO_LOGPROBS = (
    400,
    {
        "error": {
            "message": "`logprobs` is not supported with this model",
            "type": "invalid_request_error",
        }
    },
)
GEMINI_NO_LOGPROBS = (
    400,
    [
        {
            "error": {
                "code": 400,
                "message": "Logprobs is not enabled for models/gemini-2.5-pro",
                "status": "INVALID_ARGUMENT",
            }
        }
    ],
)
OPENAI_TEMPERATURE = (
    400,
    {
        "error": {
            "message": "Unsupported value: 'temperature' does not support 0 with this model. "
            "Only the default (1) value is supported.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "unsupported_value",
        }
    },
)
OPENAI_MAX_TOKENS = (
    400,
    {
        "error": {
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        }
    },
)
DEEPSEEK_NO_SCHEMA = (
    400,
    {
        "error": {
            "message": "This response_format type is unavailable now",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_request_error",
        }
    },
)
LM_STUDIO_NO_OBJECT = (400, {"error": "'response_format.type' must be 'json_schema' or 'text'"})
FASTAPI_NO_FORMAT = (
    422,
    {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "response_format"],
                "msg": "Extra inputs are not permitted",
                "input": {"type": "json_schema"},
            }
        ]
    },
)
LLAMA_CPP_GRAMMAR = (
    500,
    {"error": {"code": 500, "message": "Failed to parse grammar", "type": "server_error"}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuses:
    """Refuses requests of which something is true, and answers the others."""

    what: Callable[[Mapping[str, Any]], bool]
    saying: tuple[int, Any]
    then: Play = field(default_factory=Answer)

    async def play(self, turn: Turn) -> web.StreamResponse:
        if not self.what(turn.call.body):
            return await self.then.play(turn)
        status, document = self.saying
        return web.json_response(document, status=status)


def structure(body: Mapping[str, Any]) -> str | None:
    """How a request tells the form of its answer: "json_schema", "json_object" or not at all."""
    told = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    kind: str | None = told.get("type")
    return kind


def _entry(text: str, logprob: float = 0.0) -> dict[str, Any]:
    data = list(text.encode())
    listed = [{"token": text, "bytes": data, "logprob": logprob}]
    return {"token": text, "bytes": data, "logprob": logprob, "top_logprobs": listed}


def around(before: str, after: str = "") -> Callable[[Choice], None]:
    """Prose, a code fence or thinking around the answer, with tokens like the rest."""

    def edit(choice: Choice) -> None:
        message = choice["message"]
        message["content"] = f"{before}{message['content']}{after}"
        if choice["logprobs"] is not None:
            words = [_entry(word) for word in (before, after) if word]
            tokens = choice["logprobs"]["content"]
            tokens[:0] = words[:1] if before else []
            tokens += words[-1:] if after else []

    return edit


def thinking_beside(name: str, *, listed: bool) -> Callable[[Choice], None]:
    """Thinking in a field of its own; at SGLang its tokens are listed among the content's."""

    def edit(choice: Choice) -> None:
        choice["message"][name] = "Is it spam? It is."
        if listed and choice["logprobs"] is not None:
            choice["logprobs"]["content"].insert(0, _entry("<think>Is it spam? It is.</think>"))

    return edit


def llama_cpp(choice: Choice) -> None:
    """Ids, more alternatives than asked, two tokens of one text, and an empty one at the end."""
    tokens = choice["logprobs"]["content"]
    for position, token in enumerate(tokens):
        token["id"] = 1000 + position
        # under 1e-9 each, so that they are seen and change nothing that is looked at
        rare = [
            {"id": n, "token": f"rare{n}", "bytes": list(b"rare"), "logprob": -30.0 - n}
            for n in range(25)
        ]
        twin = {"id": 9, "token": token["token"], "bytes": token["bytes"], "logprob": -25.0}
        token["top_logprobs"] += [twin, *rare]
    tokens.append({**_entry("", -1e-6), "id": 2})
    tokens[-1]["top_logprobs"].append({"id": 3, "token": "", "bytes": [], "logprob": -18.0})


def post_sampling(choice: Choice) -> None:
    """llama.cpp with `post_sampling_probs`: probabilities, and no logprobs at all."""
    for token in choice["logprobs"]["content"]:
        token["prob"] = math.exp(token.pop("logprob"))
        token["top_probs"] = [
            {**other, "prob": math.exp(other.pop("logprob"))} for other in token.pop("top_logprobs")
        ]


def sums_above_one(choice: Choice) -> None:
    """Probabilities after sampling, each divided by what was left: together more than 1."""
    for token in choice["logprobs"]["content"]:
        token["top_logprobs"].append({"token": "x", "bytes": [120], "logprob": math.log(0.4)})


def raw_logprobs(choice: Choice) -> None:
    """vLLM: what the model would have said without the grammar has most of the mass."""
    for token in choice["logprobs"]["content"]:
        if len(token["top_logprobs"]) > 1:
            token["logprob"] += math.log(0.25)
            for other in token["top_logprobs"]:
                other["logprob"] += math.log(0.25)
            token["top_logprobs"].insert(
                0, {"token": "Sure", "bytes": list(b"Sure"), "logprob": math.log(0.75)}
            )


def outside_the_top(choice: Choice) -> None:
    """-9999 for every alternative: the server says no more than that they are unlikely."""
    for token in choice["logprobs"]["content"]:
        for other in token["top_logprobs"]:
            if other["bytes"] != token["bytes"]:
                other["logprob"] = -9999.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """Writes just this, with no log probabilities unless `tokens` are given."""

    content: str | None
    tokens: Sequence[Mapping[str, Any]] | None = None
    finish_reason: str = "stop"

    async def play(self, turn: Turn) -> web.StreamResponse:
        completion = Answer().completion(turn)
        completion["choices"] = [
            {
                "index": 0,
                "message": {"role": "assistant", "content": self.content},
                "logprobs": None if self.tokens is None else {"content": list(self.tokens)},
                "finish_reason": self.finish_reason,
            }
        ]
        return as_asked(turn, completion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sends:
    """Sends just this document, whatever was asked."""

    document: Mapping[str, Any]

    async def play(self, _turn: Turn) -> web.StreamResponse:
        return json_response(self.document)


QUIRKS: Mapping[str, Play] = {
    "code_fence": Answer(edit=around("```json\n", "\n```")),
    "prose": Answer(edit=around("Sure! Here is the label:\n", "\nLet me know if that helps.")),
    "thinks_first": Answer(edit=around("<think>\n{maybe} spam?\n</think>\n\n")),
    "llama_cpp_thinking": Answer(edit=thinking_beside("reasoning_content", listed=False)),
    "ollama_thinking": Answer(edit=thinking_beside("reasoning", listed=False)),
    "sglang_thinking": Answer(edit=thinking_beside("reasoning_content", listed=True)),
    "llama_cpp": Answer(edit=llama_cpp),
    "llama_cpp_post_sampling": Answer(edit=post_sampling),
    "sums_above_one": Answer(edit=sums_above_one),
    "vllm_raw": Answer(edit=raw_logprobs),
    "outside_the_top": Answer(edit=outside_the_top),
}
"""Answers of real servers that ask for care; what becomes of each is tests/labeling's to say."""
