"""Projects on the wire."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from app.domain.kinds import KINDS
from app.projects.labelers import NewLabeler
from app.web.content import ContentIn, require_fit
from app.web.wire import Answer, JsonValue, Name, Storable, Wire, example

MAX_EXAMPLES_BYTES: Final = 256 * 1024

# Checked by the kind itself, which knows its fields; documented by what the kinds say of them.
LabelSchemaIn = Annotated[
    dict[str, Any],
    WithJsonSchema({"oneOf": [kind.definition_schema() for kind in KINDS.values()]}),
]


class ExampleIn(ContentIn):
    """An item with the label it should get, shown to the model."""

    model_config = example(text="Where is my invoice?", label="billing")

    label: JsonValue = Field(description="a value of the label schema")


def _fitting_examples(examples: list[ExampleIn]) -> list[ExampleIn]:
    shown = [[each.content(), each.label] for each in examples]
    require_fit(len(json.dumps(shown, ensure_ascii=False).encode()), MAX_EXAMPLES_BYTES)
    return examples


class LimitsIn(Wire):
    """What an endpoint may be asked for in a minute, by all workers together."""

    model_config = example(requests_per_minute=500, tokens_per_minute=200_000)

    requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = None


class PricesIn(Wire):
    """What a million tokens cost."""

    model_config = example(input_per_million=0.15, output_per_million=0.6, currency="USD")

    input_per_million: Annotated[float, Field(ge=0, le=1_000_000)]
    output_per_million: Annotated[float, Field(ge=0, le=1_000_000)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"


class LabelerIn(Wire):
    """Who labels: a model behind an OpenAI-compatible endpoint, or a producer elsewhere."""

    model_config = example(
        model="gpt-4o-mini",
        instructions="What is this mail about?",
        examples=[{"text": "Where is my invoice?", "label": "billing"}],
        limits={"requests_per_minute": 500},
        prices={"input_per_million": 0.15, "output_per_million": 0.6, "currency": "USD"},
    )

    model: Name | None = Field(
        None, description="none: the service's SECONDLOOK_MODEL; of an external producer its name"
    )
    base_url: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="none: the service's OPENAI_BASE_URL; its key is sent nowhere else"
    )
    source: Literal[
        "auto", "logprobs", "decisions", "self_consistency", "verbalized", "external"
    ] = Field(
        "auto",
        description="where confidences come from; auto asks the endpoint once what it can do",
    )
    api: Literal["chat_completions", "responses"] = Field(
        "chat_completions",
        description="the interface that is asked; a labeler whose `source` is auto tries both, "
        "this one first",
    )
    instructions: Annotated[str, Field(max_length=20_000), Storable] = ""
    template: Annotated[str, Field(min_length=1, max_length=20_000), Storable] | None = Field(
        None, description="how items of named fields become text: `Subject: {subject}`"
    )
    examples: Annotated[
        list[ExampleIn], Field(max_length=50), AfterValidator(_fitting_examples)
    ] = Field(
        default_factory=list,
        description=f"sent with every item: all together at most {MAX_EXAMPLES_BYTES} bytes of "
        "JSON, and none with images",
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        0.0, description="null: not sent, for models that refuse it"
    )
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 20
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    reasoning_effort: Annotated[str, Field(pattern="^[a-z]{1,20}$")] | None = None
    votes: Annotated[int, Field(ge=2, le=25)] | None = Field(
        None, description="answers an item under self-consistency; none: 5"
    )
    limits: LimitsIn | None = None
    prices: PricesIn | None = None

    def new_labeler(self) -> NewLabeler:
        """The same for the service."""
        parameters = {"temperature", "top_logprobs", "max_tokens", "reasoning_effort", "votes"}
        return NewLabeler(
            model=self.model,
            base_url=self.base_url,
            instructions=self.instructions,
            parameters=self.model_dump(include=parameters, exclude_none=True),
            source=self.source,
            api=self.api,
            template=self.template,
            examples=[{"content": each.content(), "value": each.label} for each in self.examples],
            limits=None if self.limits is None else self.limits.model_dump(exclude_none=True),
            prices=None if self.prices is None else self.prices.model_dump(),
        )


class LabelSchemaVersionIn(Wire):
    """A new version of the label schema, of the same kind."""

    model_config = example(
        label_schema={"kind": "single_choice", "labels": ["billing", "bug", "other"]}
    )

    label_schema: LabelSchemaIn


class FixedThresholdIn(Wire):
    """Accept at or above a confidence. Promises nothing about accuracy."""

    model_config = example(kind="fixed_threshold", threshold=0.95)

    kind: Literal["fixed_threshold"]
    threshold: Annotated[float, Field(ge=0, le=1)]


class ReviewAllIn(Wire):
    """People decide everything."""

    model_config = example(kind="review_all")

    kind: Literal["review_all"]


class AcceptAllIn(Wire):
    """The model decides whatever it gave a known confidence for."""

    model_config = example(kind="accept_all")

    kind: Literal["accept_all"]


PolicyIn = Annotated[FixedThresholdIn | ReviewAllIn | AcceptAllIn, Field(discriminator="kind")]


class ProjectIn(Wire):
    """A new project."""

    model_config = example(
        name="support mail",
        label_schema={
            "kind": "single_choice",
            "labels": ["billing", {"name": "bug", "description": "something is broken"}],
        },
        labeler={"model": "gpt-4o-mini", "instructions": "What is this mail about?"},
        policy={"kind": "fixed_threshold", "threshold": 0.95},
    )

    name: Name
    label_schema: LabelSchemaIn
    labeler: LabelerIn = Field(default_factory=LabelerIn)
    policy: PolicyIn = Field(default_factory=lambda: ReviewAllIn(kind="review_all"))
    review_lease_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    audit_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="chance of the audit face of the coin each item draws at ingest"
    )


class LabelSchemaOut(Answer):
    """A version of the schema, with the fields of its kind."""

    model_config = ConfigDict(
        extra="allow",
        **example(
            id="sch_01k2m3n4p5q6r7s8t9v0w1x2y3",
            version=1,
            kind="single_choice",
            labels=[
                {"name": "billing", "description": ""},
                {"name": "bug", "description": "something is broken"},
            ],
        ),
    )

    id: str
    version: int
    kind: str


_LABELER = {
    "id": "lbr_01k2m3n4p5q6r7s8t9v0w1x2y3",
    "revision": 1,
    "model": "gpt-4o-mini",
    "base_url": None,
    "source": "auto",
    "api": "chat_completions",
    "instructions": "What is this mail about?",
    "template": None,
    "examples": [],
    "prompt_version": "single_choice/1",
    "prompt_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "parameters": {"temperature": 0.0, "top_logprobs": 20},
    "limits": None,
    "prices": None,
    "created_at": "2026-11-22T12:00:00Z",
}


class LabelerOut(Answer):
    """A revision of who labels."""

    model_config = example(**_LABELER)

    id: str
    revision: int
    model: str
    base_url: str | None
    source: str
    api: str
    instructions: str
    template: str | None
    examples: list[dict[str, Any]] = Field(description="each an item's content with its label")
    prompt_version: str
    prompt_hash: str
    parameters: dict[str, Any]
    limits: dict[str, Any] | None
    prices: dict[str, Any] | None
    created_at: datetime


_POLICY = {
    "id": "pol_01k2m3n4p5q6r7s8t9v0w1x2y3",
    "version": 1,
    "policy": {"kind": "fixed_threshold", "threshold": 0.95},
    "created_at": "2026-11-22T12:00:00Z",
}


class PolicyOut(Answer):
    model_config = example(**_POLICY)

    id: str
    version: int
    policy: dict[str, Any]
    created_at: datetime


class ProjectOut(Answer):
    model_config = example(
        id="prj_01k2m3n4p5q6r7s8t9v0w1x2y3",
        name="support mail",
        label_schema={
            "id": "sch_01k2m3n4p5q6r7s8t9v0w1x2y3",
            "version": 1,
            "kind": "single_choice",
            "labels": [
                {"name": "billing", "description": ""},
                {"name": "bug", "description": "something is broken"},
            ],
        },
        labeler=_LABELER,
        policy=_POLICY,
        review_lease_seconds=600,
        audit_probability=0.1,
        train_probability=0.025,
        created_at="2026-11-22T12:00:00Z",
    )

    id: str
    name: str
    label_schema: LabelSchemaOut
    labeler: LabelerOut
    policy: PolicyOut
    review_lease_seconds: int
    audit_probability: float
    train_probability: float
    created_at: datetime
