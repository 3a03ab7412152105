"""What an item says, in the form that is stored, and as the text that a model reads.

Content is a JSON object of one of four forms: `{"text": …}`, `{"messages": [{"role", "content"}]}`,
`{"fields": {name: value}}` or `{"images": [{"url"} or {"base64", "media_type"}], "text"?: …}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_PLACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class TemplateError(ValueError):
    """A template that can't be filled in: its braces, or a field that an item does not have."""


def text_of(content: Mapping[str, Any], *, template: str | None = None) -> str:
    """The item as text: what a model reads, and what the offsets of spans count in.

    `text` as it is; `messages` as a transcript, a line a turn; `fields` by the template, or
    without one a line a field in the order of their names (JSON objects have no order); of
    `images` the text beside them, empty without one.

    Raises:
        TemplateError: the template names a field that the item does not have.
    """
    if "messages" in content:
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in content["messages"])
    if "fields" in content:
        fields = content["fields"]
        if template is not None:
            return fill(template, fields)
        return "\n".join(f"{name}: {_shown(value)}" for name, value in sorted(fields.items()))
    if "images" in content:
        return str(content.get("text", ""))
    return str(content["text"])


def images_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The item's images as URLs: the sender's own, or `data:` ones."""
    return tuple(
        image["url"] if "url" in image else f"data:{image['media_type']};base64,{image['base64']}"
        for image in content.get("images", ())
    )


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """The template with `{name}` replaced by that field; `{{` and `}}` are braces.

    Nothing else is done to it: no formats, no attributes, no code.

    Raises:
        TemplateError: a field is missing.
    """

    def replaced(match: re.Match[str]) -> str:
        if match.group() in {"{{", "}}"}:
            return match.group()[0]
        name = match.group(1)
        if name not in fields:
            raise TemplateError(f"the item has no field {name!r}, which the template names")
        return _shown(fields[name])

    return _PLACE.sub(replaced, template)


def template_fields(template: str) -> tuple[str, ...]:
    """The fields that a template names, in order, each once.

    Raises:
        TemplateError: a brace that is neither doubled nor around a name.
    """
    return tuple(dict.fromkeys(_names(template)))


def _names(template: str) -> Iterator[str]:
    for match in _PLACE.finditer(template):
        if match.group() in {"{{", "}}"}:
            continue
        name = match.group(1)
        if not name:
            raise TemplateError(
                f"the brace at position {match.start()} stands around no name; double it to keep it"
            )
        yield name


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
