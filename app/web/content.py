"""What an item may say, on the wire: a text, a chat, named fields or images."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.web.wire import JsonObject, Storable, Text, Wire, example

MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_IMAGE_BYTES: Final = 1024 * 1024
MAX_IMAGES: Final = 16
MAX_FIELDS: Final = 100
_MAX_URL: Final = 2_000
# How files of these types begin.
_SIGNATURES: Final = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


def require_fit(size: int, limit: int) -> None:
    """Refuses what is larger than the limit, in bytes.

    Raises:
        PydanticCustomError: it is.
    """
    if size > limit:
        raise PydanticCustomError(
            "too_large",
            "has {size} bytes, at most {limit} fit",
            {"size": size, "limit": limit},
        )


def _fitting_text(text: str) -> str:
    require_fit(len(text.encode()), MAX_TEXT_BYTES)
    return text


def _fitting_messages(messages: list[MessageIn]) -> list[MessageIn]:
    require_fit(sum(len(turn.content.encode()) for turn in messages), MAX_TEXT_BYTES)
    return messages


def _plain_fields(fields: dict[str, Any]) -> dict[str, Any]:
    require_fit(len(json.dumps(fields, ensure_ascii=False).encode()), MAX_TEXT_BYTES)
    if not fields:
        raise PydanticCustomError("no_fields", "must name at least one field")
    if len(fields) > MAX_FIELDS:
        raise PydanticCustomError("too_many_fields", "has more than {n} fields", {"n": MAX_FIELDS})
    for name, value in fields.items():
        if not name or "{" in name or "}" in name:
            raise PydanticCustomError("name", "has a field whose name is empty or has a brace")
        if isinstance(value, dict | list):
            raise PydanticCustomError(
                "not_plain",
                "has a field that is no string, number, boolean or null: {name}",
                {"name": name[:100]},
            )
    return fields


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise PydanticCustomError("url", "must be an http or https URL")
    return url


class MessageIn(Wire):
    """One turn of a chat that is to be labelled."""

    role: Annotated[str, Field(min_length=1, max_length=50), Storable]
    content: Text


class ImageIn(Wire):
    """An image: a URL that is passed to the model as it is, or the image itself."""

    model_config = example(url="https://images.example/cat-17.jpg")

    url: Annotated[str, Field(max_length=_MAX_URL), AfterValidator(_http_url)] | None = Field(
        None, description="passed to the model, never fetched by the service"
    )
    base64: str | None = Field(
        None, description=f"all inline images of an item: at most {MAX_IMAGE_BYTES} bytes decoded"
    )
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.url is None) == (self.base64 is None):
            raise PydanticCustomError("image", "must have either `url` or `base64`")
        if (self.base64 is None) != (self.media_type is None):
            raise PydanticCustomError("image", "`base64` needs `media_type`, and `url` has none")
        if self.media_type is not None and not self.decoded().startswith(
            _SIGNATURES[self.media_type]
        ):
            raise PydanticCustomError("image", "`base64` is not of its `media_type`")
        return self

    def decoded(self) -> bytes:
        """The bytes of an inline image; none of one by URL.

        Raises:
            PydanticCustomError: it is no base64.
        """
        try:
            return base64.b64decode(self.base64 or "", validate=True)
        except (binascii.Error, ValueError):
            raise PydanticCustomError("base64", "`base64` is no base64") from None


def _fitting_images(images: list[ImageIn]) -> list[ImageIn]:
    require_fit(sum(len(image.decoded()) for image in images), MAX_IMAGE_BYTES)
    return images


class ContentIn(Wire):
    """A text, a chat, named fields, or images with or without a text."""

    text: Annotated[str, Field(min_length=1), Storable, AfterValidator(_fitting_text)] | None = None
    messages: (
        Annotated[
            list[MessageIn],
            Field(min_length=1, max_length=1000),
            AfterValidator(_fitting_messages),
        ]
        | None
    ) = None
    fields: Annotated[JsonObject, AfterValidator(_plain_fields)] | None = Field(
        None, description="strings, numbers, booleans and nulls; a labeler's template names them"
    )
    images: (
        Annotated[
            list[ImageIn],
            Field(min_length=1, max_length=MAX_IMAGES),
            AfterValidator(_fitting_images),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        given = [self.text, self.messages, self.fields, self.images]
        forms = sum(form is not None for form in given)
        pictured = self.images is not None and self.text is not None and forms == 2
        if forms != 1 and not pictured:
            raise PydanticCustomError(
                "content",
                "must have one of `text`, `messages`, `fields`, `images`, or images with a text",
            )
        return self

    def content(self) -> dict[str, Any]:
        """The content as it is stored."""
        if self.images is not None:
            images = [image.model_dump(exclude_none=True) for image in self.images]
            return {"images": images} | ({} if self.text is None else {"text": self.text})
        if self.messages is not None:
            return {"messages": [turn.model_dump() for turn in self.messages]}
        if self.fields is not None:
            return {"fields": self.fields}
        return {"text": self.text}
