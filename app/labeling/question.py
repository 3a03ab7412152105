"""What is asked of a model about every item of a labeler, in the form of its endpoint's requests.

No SDK is needed for it: the API process shows a request before anybody sends it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from app.domain import prompting
from app.domain.confidence import ConfidenceSource
from app.domain.content import text_of
from app.domain.kinds.base import LabelSchema
from app.domain.prompting import Asks, Example, Prompt
from app.domain.stated import Stating
from app.domain.votes import DEFAULT_TEMPERATURE, DEFAULT_VOTES
from app.labeling import chat, decisions, responses
from app.labeling.answer import Reading, Reply, read_reply, read_stated
from app.labeling.way import Api, Way


class Request(NamedTuple):
    """What is sent: behind which path of the base URL, and the JSON body."""

    path: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is the same for every item of a labeler.

    Attributes:
        model: as the endpoint knows it.
        system: the fixed part of the prompt, in the words of the way.
        schema: what may be said of an item.
        parameters: of the labeler. Sent as they are, but for `votes`, the answers that
            self-consistency asks for; at temperature 0 it asks at 0.7.
        template: how `fields` items become text.
        way: how the endpoint is asked.
        learned: told of another way that the endpoint took after it had refused this one.
    """

    model: str
    system: str
    schema: LabelSchema
    parameters: Mapping[str, Any]
    template: str | None = None
    way: Way = field(default_factory=Way)
    learned: Callable[[Way], Awaitable[None]] | None = field(
        default=None, repr=False, compare=False
    )
    _settings: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        settings = {"model": self.model, **_settings(self)}
        object.__setattr__(self, "_settings", settings)

    @property
    def asks(self) -> Asks:
        """The schema in the words of the way."""
        return asked_as(self.schema, self.way.source)

    @property
    def votes(self) -> int:
        """How many answers are asked for an item."""
        if self.way.source is not ConfidenceSource.SELF_CONSISTENCY:
            return 1
        return int(self.parameters.get("votes", DEFAULT_VOTES))

    def by(self, way: Way) -> Question:
        """The same question asked another way; of the same source, so the words stay."""
        return replace(self, way=way)

    def prompt(self, content: Mapping[str, Any]) -> Prompt:
        """The prompt for an item.

        Raises:
            TemplateError: the item lacks a field that the template names.
        """
        return prompting.build_prompt(self.system, content, template=self.template)

    def text(self, content: Mapping[str, Any]) -> str:
        """The item's text.

        Raises:
            TemplateError: as above.
        """
        return text_of(content, template=self.template)

    def request(self, prompt: Prompt, *, draw: int = 0) -> Request:
        """What is sent for a prompt.

        Args:
            prompt: of an item, or its repair.
            draw: which of several answers this is; equal seeds would bring equal answers.
        """
        api = self.way.api
        if api is Api.CHAT_COMPLETIONS:
            body = {**self._settings, "messages": chat.messages(prompt)}
        elif api is Api.RESPONSES:
            body = {**self._settings, "input": responses.turns(prompt)}
        else:
            body = {**self._settings, "input": decisions.turns(prompt)}
        if draw and isinstance(body.get("seed"), int):
            body["seed"] += draw
        return Request(api.path, body)

    def read(self, body: bytes, *, text: str) -> Reading:
        """What an answer to one request came to.

        Not for several answers, which have a confidence only together.

        Raises:
            UnreadableResponseError: the body is none of the interface.
        """
        if self.way.api is Api.DECISIONS:
            return decisions.read_decision(body, schema=self.schema)
        reply = self.reply(body)
        if self.way.source is ConfidenceSource.VERBALIZED:
            return read_stated(reply, schema=self.schema, text=text)
        return read_reply(reply, schema=self.schema, text=text)

    def reply(self, body: bytes) -> Reply:
        """What a server sent that writes text.

        Raises:
            UnreadableResponseError: the body is none of the interface.
        """
        if self.way.api is Api.RESPONSES:
            return responses.read_response(body)
        return chat.read_chat(body)


def _settings(question: Question) -> dict[str, Any]:
    way, parameters = question.way, question.parameters
    if way.api is Api.DECISIONS:
        return decisions.settings(question.schema)
    settings = responses.settings if way.api is Api.RESPONSES else chat.settings
    if way.source is ConfidenceSource.SELF_CONSISTENCY and parameters.get("temperature") == 0:
        parameters = {**parameters, "temperature": DEFAULT_TEMPERATURE}
    asked = question.schema
    verbalized = way.source is ConfidenceSource.VERBALIZED
    answer_schema = Stating(asked).answer_schema() if verbalized else asked.answer_schema()
    return settings(parameters, way=way, answer_schema=answer_schema)


@dataclass(frozen=True, slots=True)
class _Deciding:
    """A schema for a decisions endpoint, whose questions say what may be answered."""

    schema: LabelSchema
    described: str = ""
    form: str = ""
    repair: str = ""

    @property
    def task(self) -> str:
        return self.schema.task

    def answer(self, value: Any) -> str:
        return self.schema.answer(value)


def asked_as(schema: LabelSchema, source: ConfidenceSource) -> Asks:
    """The schema in the words by which this source asks for its values.

    They are fixed by the kind's prompt and the source, so a prompt's hash and its prediction's
    source name them.
    """
    if source is ConfidenceSource.VERBALIZED:
        return Stating(schema)
    if source is ConfidenceSource.DECISIONS:
        return _Deciding(schema)
    return schema


def build_question(labeler: Mapping[str, Any], *, schema: LabelSchema, way: Way) -> Question:
    """The question of a labeler.

    Args:
        labeler: `model`, `instructions`, `parameters`, `template` and `examples` of its row.
        schema: of its project.
        way: how it is asked.

    Raises:
        ValueError: decisions do not fit the schema.
    """
    examples = [Example(each["content"], each["value"]) for each in labeler["examples"] or ()]
    system = prompting.system_prompt(
        asked_as(schema, way.source),
        instructions=labeler["instructions"],
        examples=examples,
        template=labeler["template"],
    )
    return Question(
        model=labeler["model"],
        system=system,
        schema=schema,
        parameters=labeler["parameters"],
        template=labeler["template"],
        way=way,
    )
