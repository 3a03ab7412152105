"""Projects on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from app.domain.kinds import KINDS
from app.web.wire import Answer, JsonObject, Name, Storable, Wire, example

# Checked by the kind itself, which knows its fields; documented by what the kinds say of them.
LabelSchemaIn = Annotated[
    JsonObject,
    WithJsonSchema({"oneOf": [kind.definition_schema() for kind in KINDS.values()]}),
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


class LabelerOut(Answer):
    id: str
    revision: int
    model: str
    base_url: str | None
    instructions: str
    prompt_version: str
    prompt_hash: str
    parameters: dict[str, Any]


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
        labeler={
            "id": "lbr_01k2m3n4p5q6r7s8t9v0w1x2y3",
            "revision": 1,
            "model": "gpt-4o-mini",
            "base_url": None,
            "instructions": "What is this mail about?",
            "prompt_version": "single_choice/1",
            "prompt_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "parameters": {"temperature": 0.0, "top_logprobs": 20},
        },
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
