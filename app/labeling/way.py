"""How one project is asked: by which interface, for which confidence, and what its server bears."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self

from app.domain.confidence import ConfidenceSource

MOST_TOP_LOGPROBS: Final = 20
"""What OpenAI's endpoints list at most, and what is asked for where a labeler does not say."""
_FEW_TOP_LOGPROBS: Final = 5  # the limit of Azure and others
# a whole number, not a part of a name or of a fraction
_NUMBER: Final = re.compile(r"(?<![\w.\-/])\d{1,4}(?![\w\-]|\.\d)")
_STRUCTURE: Final = re.compile(
    r"response_format|json_schema|json_object|text\.format|structured output|json schema|grammar"
)


class Api(StrEnum):
    """An interface of a model server."""

    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    DECISIONS = "decisions"

    @property
    def path(self) -> str:
        """Where it is, behind the base URL."""
        return _PATHS[self]


_PATHS: Final = {
    Api.CHAT_COMPLETIONS: "/chat/completions",
    Api.RESPONSES: "/responses",
    Api.DECISIONS: "/decisions",
}


class Structured(StrEnum):
    """How a server is told the form of an answer, besides by words."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    NONE = "none"


_LESS_STRUCTURED: Final = {
    Structured.JSON_SCHEMA: Structured.JSON_OBJECT,
    Structured.JSON_OBJECT: Structured.NONE,
}


@dataclass(frozen=True, slots=True)
class Way:
    """How a project is asked.

    Attributes:
        source: where its confidences come from.
        api: the interface; `decisions` exactly for that source.
        structured: how the form of the answer is told.
        top_logprobs: the most alternatives that the server lists; None: as many as are wanted.
        without: fields of the request that the server does not take, of "logprobs" (with
            `top_logprobs`), "temperature", "max_tokens" (it has `max_completion_tokens`) and
            "store".
    """

    source: ConfidenceSource = ConfidenceSource.LOGPROBS
    api: Api = Api.CHAT_COMPLETIONS
    structured: Structured = Structured.JSON_SCHEMA
    top_logprobs: int | None = None
    without: frozenset[str] = frozenset()

    @classmethod
    def named(cls, source: str, api: str) -> Self:
        """The way that a labeler names, whose source is not `auto`."""
        wanted = ConfidenceSource(source)
        if wanted is ConfidenceSource.DECISIONS:
            return cls(wanted, Api.DECISIONS)
        return cls(wanted, Api(api))

    def listed(self, wanted: int | None) -> int:
        """How many alternatives to ask for, of a labeler that wants so many."""
        most = MOST_TOP_LOGPROBS if self.top_logprobs is None else self.top_logprobs
        return most if wanted is None else min(wanted, most)

    def after_refusal(self, words: str, *, wanted: int | None) -> Way | None:
        """Another way to ask for the same, without what the server refuses; None: there is none.

        Args:
            words: what it said of the refused request, in lower case.
            wanted: the alternatives that the labeler wants, None as many as there are.
        """
        if self.api is Api.DECISIONS:
            return None
        if "logprobs" in words and self._asks_logprobs:
            return self._with_fewer(words, self.listed(wanted))
        if _STRUCTURE.search(words) and self.structured in _LESS_STRUCTURED:
            return replace(self, structured=_LESS_STRUCTURED[self.structured])
        for name, sign in (
            ("temperature", r"\btemperature\b"),
            ("max_tokens", r"\bmax_completion_tokens\b"),
            ("store", r"\bstore\b"),
        ):
            if name not in self.without and re.search(sign, words):
                return replace(self, without=self.without | {name})
        return None

    @property
    def _asks_logprobs(self) -> bool:
        return self.source is ConfidenceSource.LOGPROBS and "logprobs" not in self.without

    def _with_fewer(self, words: str, asked: int) -> Way:
        """Fewer alternatives where a limit is spoken of, else no log probabilities at all.

        The label is worth having without: its confidence is then unknown, and people see it.
        """
        limits = [int(number) for number in _NUMBER.findall(words) if 0 < int(number) < asked]
        if limits:
            return replace(self, top_logprobs=max(limits))
        if "top_logprobs" in words and asked > _FEW_TOP_LOGPROBS:
            return replace(self, top_logprobs=_FEW_TOP_LOGPROBS)
        return replace(self, without=self.without | {"logprobs"})

    def to_json(self) -> dict[str, Any]:
        """As JSON that `from_json` reads."""
        return {
            "source": self.source.value,
            "api": self.api.value,
            "structured": self.structured.value,
            "top_logprobs": self.top_logprobs,
            "without": sorted(self.without),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """A way that `to_json` wrote."""
        return cls(
            ConfidenceSource(document["source"]),
            Api(document["api"]),
            Structured(document["structured"]),
            document["top_logprobs"],
            frozenset(document["without"]),
        )
