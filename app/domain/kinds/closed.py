"""What the kinds share that have a closed set of labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.domain.kinds.base import SchemaError, problems_under, refuse_unknown
from app.domain.labels import (
    MAX_DESCRIPTION,
    MAX_LABELS,
    MAX_NAME,
    MIN_LABELS,
    Label,
    LabelProblem,
    LabelSet,
    LabelSetError,
)

_MAX_LISTED: Final = 20


def parse_labels(
    definition: Mapping[str, Any], *, others: Sequence[str] = (), least: int = MIN_LABELS
) -> LabelSet:
    """The label set of a definition: `labels`, a list of names or of names with descriptions.

    Args:
        definition: of a kind.
        others: fields that it may have besides.
        least: how many labels there must be; 1 where more than the label is asked for.

    Raises:
        SchemaError: it has no such labels, or other fields.
    """
    problems = refuse_unknown(definition, ["labels", *others])
    rows = definition.get("labels")
    if not isinstance(rows, list):
        fault = "must be a list of labels" if "labels" in definition else "required"
        problems.append(LabelProblem("/labels", fault))
        raise SchemaError(problems)
    try:
        labels = LabelSet.from_rows(rows, least=least)
    except LabelSetError as error:
        problems += problems_under("/labels", error.problems)
        raise SchemaError(problems) from error
    if problems:
        raise SchemaError(problems)
    return labels


def labels_definition_schema(kind: str, description: str, **others: Any) -> dict[str, Any]:
    """JSON schema of a definition that has labels; `others` are properties it may have besides."""
    name = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
    label = {
        "type": "object",
        "description": "A label; the description is shown to the model and to people.",
        "properties": {
            "name": name,
            "description": {"type": "string", "maxLength": MAX_DESCRIPTION, "default": ""},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    labels = {
        "type": "array",
        "description": "names, or names with descriptions",
        "items": {"anyOf": [label, name]},
        "maxItems": MAX_LABELS,
    }
    return {
        "type": "object",
        "title": kind,
        "description": description,
        "properties": {"kind": {"const": kind, "type": "string"}, "labels": labels, **others},
        "required": ["kind", "labels"],
        "additionalProperties": False,
    }


def described(labels: Sequence[Label] | LabelSet) -> str:
    """Labels as lines of a prompt."""
    lines = [
        f"- {json.dumps(label.name, ensure_ascii=False)}"
        + (f": {label.description}" if label.description else "")
        for label in labels
    ]
    return "Labels:\n" + "\n".join(lines)


def listed(names: Sequence[str]) -> str:
    """Names for an error, so many that it stays readable."""
    shown = ", ".join(f'"{name}"' for name in names[:_MAX_LISTED])
    return shown if len(names) <= _MAX_LISTED else f"{shown} and more"
