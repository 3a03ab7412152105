"""Projects on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from app.domain.labels import MAX_DESCRIPTION, MAX_LABELS, MAX_NAME
from app.web.wire import Answer, Name, Storable, Wire

LabelName = Annotated[str, Field(max_length=MAX_NAME), Storable]


class LabelIn(Wire):
    """A label; the description is shown to the model and to people."""

    name: LabelName
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION), Storable] = ""


def _form(value: object) -> str:
    return "name" if isinstance(value, str) else "label"


class SingleChoiceIn(Wire):
    """Exactly one of a closed set of labels."""

    kind: Literal["single_choice"]
    labels: Annotated[
        list[
            Annotated[
                Annotated[LabelIn, Tag("label")] | Annotated[LabelName, Tag("name")],
                Discriminator(_form),
            ]
        ],
        Field(max_length=MAX_LABELS, description="names, or names with descriptions"),
    ]


class LabelerIn(Wire):
    """Who labels: a model behind an OpenAI-compatible chat-completions endpoint."""

    model: Name | None = Field(None, description="none: the service's SECONDLOOK_MODEL")
    base_url: Annotated[str, Field(max_length=500)] | None = Field(
        None, description="none: the service's OPENAI_BASE_URL; its key is sent nowhere else"
    )
    instructions: Annotated[str, Field(max_length=20_000), Storable] = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 20
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None


class FixedThresholdIn(Wire):
    """Accept at or above a confidence. Promises nothing about accuracy."""

    kind: Literal["fixed_threshold"]
    threshold: Annotated[float, Field(ge=0, le=1)]


class ReviewAllIn(Wire):
    """People decide everything."""

    kind: Literal["review_all"]


class AcceptAllIn(Wire):
    """The model decides whatever it gave a known confidence for."""

    kind: Literal["accept_all"]


PolicyIn = Annotated[FixedThresholdIn | ReviewAllIn | AcceptAllIn, Field(discriminator="kind")]


class ProjectIn(Wire):
    """A new project."""

    name: Name
    label_schema: SingleChoiceIn
    labeler: LabelerIn = Field(default_factory=LabelerIn)
    policy: PolicyIn = Field(default_factory=lambda: ReviewAllIn(kind="review_all"))
    review_lease_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    audit_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="chance of the audit face of the coin each item draws at ingest"
    )


class LabelOut(Answer):
    name: str
    description: str


class LabelSchemaOut(Answer):
    id: str
    version: int
    kind: str
    labels: list[LabelOut]


class LabelerOut(Answer):
    id: str
    revision: int
    model: str
    base_url: str | None
    instructions: str
    prompt_version: str
    prompt_hash: str
    parameters: dict[str, Any]


class PolicyOut(Answer):
    id: str
    version: int
    policy: dict[str, Any]
    created_at: datetime


class ProjectOut(Answer):
    id: str
    name: str
    label_schema: LabelSchemaOut
    labeler: LabelerOut
    policy: PolicyOut
    review_lease_seconds: int
    audit_probability: float
    train_probability: float
    created_at: datetime
