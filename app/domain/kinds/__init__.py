"""Kinds of labels. To add one: a folder with its schema, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.domain.kinds.base import LabelSchema, SchemaError
from app.domain.kinds.fields import FieldsSchema
from app.domain.kinds.multi_choice import MultiChoiceSchema
from app.domain.kinds.regions import RegionsSchema
from app.domain.kinds.single_choice import SingleChoiceSchema
from app.domain.kinds.spans import SpansSchema
from app.domain.kinds.text import TextSchema
from app.domain.labels import LabelProblem

KINDS: Final[Mapping[str, type[LabelSchema]]] = {
    schema.KIND: schema
    for schema in (
        SingleChoiceSchema,
        MultiChoiceSchema,
        FieldsSchema,
        SpansSchema,
        TextSchema,
        RegionsSchema,
    )
}
"""Every kind of label by its name."""


def parse_schema(definition: Mapping[str, Any]) -> LabelSchema:
    """The schema of a definition with its field `kind`.

    Raises:
        SchemaError: no such kind, or no schema of it.
    """
    kind = definition.get("kind")
    schema = KINDS.get(kind) if isinstance(kind, str) else None
    if schema is None:
        named = ", ".join(KINDS)
        fault = f"must be one of {named}" if "kind" in definition else "required"
        raise SchemaError([LabelProblem("/kind", fault)])
    return schema.parse({name: part for name, part in definition.items() if name != "kind"})
