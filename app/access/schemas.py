"""Keys on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.web.wire import Answer, Moment, Name, Wire, WireId, example

ScopeName = Literal["admin", "ingest", "reviewer", "read"]


class KeyIn(Wire):
    """A new key."""

    model_config = example(name="annotation tool", scopes=["reviewer"], may_name_reviewer=True)

    name: Name
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=4)]
    projects: Annotated[list[WireId], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="none: all projects"
    )
    may_name_reviewer: bool = Field(
        False, description="whether it may act for others by Secondlook-Reviewer"
    )
    expires_at: Moment | None = None


_KEY = {
    "id": "key_01k2m3n4p5q6r7s8t9v0w1x2y3",
    "name": "annotation tool",
    "prefix": "slk_4fGh1k",
    "scopes": ["reviewer"],
    "projects": None,
    "may_name_reviewer": True,
    "created_at": "2026-11-22T12:00:00Z",
    "expires_at": None,
    "last_used_at": None,
}


class KeyOut(Answer):
    model_config = example(**_KEY)

    id: str
    name: str
    prefix: str
    scopes: list[str]
    projects: list[str] | None
    may_name_reviewer: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewKeyOut(KeyOut):
    model_config = example(**_KEY, key="slk_4fGh1kQ2…")

    key: str = Field(description="shown this once")
