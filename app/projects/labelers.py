"""Who labels: checked against the schema it labels by, before it is stored."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain import prompting
from app.domain.confidence import ConfidenceSource
from app.domain.content import TemplateError, template_fields, text_of
from app.domain.decisions import MAX_CHOICES, MAX_QUESTIONS
from app.domain.kinds.base import LabelSchema, ValueFaultError
from app.errors import FieldError, InvalidError, invalid_field
from app.infra.ids import new_id
from app.projects.models import Labeler

AUTO: Final = "auto"
_PRODUCER: Final = "external"


@dataclass(frozen=True, slots=True)
class NewLabeler:
    """Who shall label.

    Attributes:
        model: None: the service's own; of an external producer its name.
        base_url: None: the service's own.
        instructions: said to the model before the labels.
        parameters: of the request, as they are sent.
        source: where the confidence shall come from, `auto` or one of `ConfidenceSource`.
        api: the interface it is asked by: `chat_completions` or `responses`.
        template: how `fields` items become text.
        examples: `{"content": …, "value": …}` each, shown to the model.
        limits: requests and tokens a minute.
        prices: a million tokens cost.
    """

    model: str | None = None
    base_url: str | None = None
    instructions: str = ""
    parameters: dict[str, Any] | None = None
    source: str = AUTO
    api: str = "chat_completions"
    template: str | None = None
    examples: Sequence[dict[str, Any]] = ()
    limits: dict[str, Any] | None = None
    prices: dict[str, Any] | None = None

    @classmethod
    def like(cls, labeler: Labeler) -> NewLabeler:
        """The settings of a stored revision."""
        return cls(
            model=labeler.model,
            base_url=labeler.base_url,
            instructions=labeler.instructions,
            parameters=labeler.parameters,
            source=labeler.source,
            api=labeler.api,
            template=labeler.template,
            examples=labeler.examples or (),
            limits=labeler.limits,
            prices=labeler.prices,
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The service's own endpoint, for labelers that name none."""

    model: str | None
    base_url: str | None


def labeler_row(
    new: NewLabeler,
    *,
    schema: LabelSchema,
    project_id: uuid.UUID,
    revision: int,
    own: Endpoint,
    under: str = "/labeler",
) -> Labeler:
    """A revision to store; `under` is where in the request it stands.

    Raises:
        InvalidError: no model, an unusable base URL, template or example, a source that the kind
            of label does not have.
    """
    source = _checked_source(new.source, schema, under=under)
    external = source == ConfidenceSource.EXTERNAL.value
    model = new.model or (_PRODUCER if external else own.model)
    if model is None:
        raise invalid_field(
            f"{under}/model", "name a model, or start the service with SECONDLOOK_MODEL"
        )
    examples = _checked_examples(new, schema, under=under)
    version = prompting.prompt_version(schema)
    system = prompting.system_prompt(
        schema,
        instructions=new.instructions,
        examples=[prompting.Example(each["content"], each["value"]) for each in examples],
        template=new.template,
    )
    return Labeler(
        id=new_id(),
        project_id=project_id,
        revision=revision,
        model=model,
        base_url=_checked_base_url(new.base_url, own=own.base_url, under=under),
        instructions=new.instructions,
        prompt_version=version,
        prompt_hash=prompting.prompt_hash(system, version=version, template=new.template),
        parameters=new.parameters or {},
        source=source,
        api=new.api,
        template=new.template,
        examples=examples or None,
        limits=new.limits,
        prices=new.prices,
    )


def for_schema(labeler: Labeler, schema: LabelSchema, *, revision: int, own: Endpoint) -> Labeler:
    """A revision of a labeler that is the same but for the schema it is asked by.

    Raises:
        InvalidError: an example is no value of the schema.
    """
    return labeler_row(
        NewLabeler.like(labeler),
        schema=schema,
        project_id=labeler.project_id,
        revision=revision,
        own=own,
    )


def _checked_source(source: str, schema: LabelSchema, *, under: str) -> str:
    if not schema.ASKED:
        if source not in {AUTO, ConfidenceSource.EXTERNAL.value}:
            raise invalid_field(
                f"{under}/source",
                f"no model is asked for {schema.KIND}: they come as external predictions",
            )
        return ConfidenceSource.EXTERNAL.value
    if source == ConfidenceSource.DECISIONS.value and schema.decision_questions() is None:
        raise invalid_field(
            f"{under}/source",
            f"decisions fit single_choice of up to {MAX_CHOICES} labels and multi_choice of up to "
            f"{MAX_QUESTIONS}",
        )
    return source


def _checked_examples(new: NewLabeler, schema: LabelSchema, *, under: str) -> list[dict[str, Any]]:
    if new.template is not None:
        try:
            named = template_fields(new.template)
        except TemplateError as error:
            raise invalid_field(f"{under}/template", str(error)) from error
        if not named:
            raise invalid_field(f"{under}/template", "names no field: write {subject}, say")
    checked, errors = [], []
    for index, example in enumerate(new.examples):
        pointer = f"{under}/examples/{index}"
        if "images" in example["content"]:
            errors.append(FieldError(f"{pointer}/images", "an example can't be an image"))
            continue
        try:
            text = text_of(example["content"], template=new.template)
            value = schema.accept(example["value"], text=text)
        except TemplateError as error:
            errors.append(FieldError(f"{pointer}/fields", str(error)))
        except ValueFaultError as error:
            errors.append(FieldError(f"{pointer}/label{error.pointer}", error.detail))
        else:
            checked.append({"content": example["content"], "value": value})
    if errors:
        raise InvalidError.about(errors)
    return checked


def _checked_base_url(base_url: str | None, *, own: str | None, under: str) -> str | None:
    """The URL as given; None where it is the service's own, so that an endpoint has one name."""
    if base_url is None:
        return None
    # for those alone who name one: to load it takes a tenth of a second
    import httpx2  # noqa: PLC0415

    try:
        # as the client reads it that will ask it, which fails at hosts that it can't use
        parts = httpx2.URL(base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.host)
        usable = usable and (parts.port is None or parts.port < 2**16)
    except httpx2.InvalidURL:
        usable = False
    # a user or a password would be shown to everybody who reads the project
    if not usable or not base_url.isprintable() or set(base_url) & set(" \\@?#"):
        raise invalid_field(
            f"{under}/base_url",
            "must be an http or https URL without user, query or fragment",
        )
    return None if own is not None and _name(base_url) == _name(own) else base_url


def _name(base_url: str) -> str:
    return base_url.rstrip("/").lower()
