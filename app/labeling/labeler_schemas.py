"""What a labeler sends and what its endpoint can do, on the wire."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.web.content import ContentIn
from app.web.wire import Answer, Wire, WireId, example

_WAY: dict[str, Any] = {
    "source": "logprobs",
    "api": "chat_completions",
    "structured": "json_schema",
    "top_logprobs": None,
    "without": [],
}


class PreviewIn(Wire):
    """An item to show the request of: one that is there, or one that is sent along."""

    model_config = example(item={"text": "I was charged twice."})

    item: ContentIn | None = None
    item_id: WireId | None = None

    @model_validator(mode="after")
    def _one_item(self) -> Self:
        if (self.item is None) == (self.item_id is None):
            raise PydanticCustomError("item", "must have either `item` or `item_id`")
        return self


class WayOut(Answer):
    """How an endpoint is asked."""

    model_config = example(**_WAY)

    source: str = Field(description="where confidences come from")
    api: str
    structured: str = Field(description="how the form of the answer is told, besides by words")
    top_logprobs: int | None = Field(description="the most alternatives the server lists")
    without: list[str] = Field(description="fields of the request that the server does not take")


class PreviewOut(Answer):
    """The request exactly as it would be sent; nothing was."""

    model_config = example(
        path="/chat/completions",
        body={"model": "gpt-4o-mini", "messages": [], "logprobs": True},
        way=_WAY,
        assumed=True,
        calls=1,
        prompt_version="single_choice/1",
    )

    path: str = Field(description="behind the labeler's base URL")
    body: dict[str, Any]
    way: WayOut
    assumed: bool = Field(
        description="the endpoint has not been probed yet: the way may turn out to be another"
    )
    calls: int = Field(description="how often it would be sent, but for a repair")
    prompt_version: str


class TryOut(Answer):
    """One way that was tried."""

    way: WayOut
    fit: bool = Field(description="it brought a label with a confidence")
    said: str


class ProbeOut(Answer):
    """What a probe found; it is remembered for all who label."""

    model_config = example(
        way=_WAY,
        served_model="gpt-4o-mini-2024-07-18",
        detail="It answers with a confidence.",
        tries=[{"way": _WAY, "fit": True, "said": "It answers with a confidence."}],
    )

    way: WayOut | None = Field(description="the best that fits; null: nothing could be found out")
    served_model: str | None
    detail: str
    tries: list[TryOut]
