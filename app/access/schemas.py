"""Keys on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.web.wire import Answer, Moment, Name, Wire, WireId

ScopeName = Literal["admin", "ingest", "reviewer", "read"]


class KeyIn(Wire):
    """A new key."""

    name: Name
    scopes: Annotated[list[ScopeName], Field(min_length=1, max_length=4)]
    projects: Annotated[list[WireId], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="none: all projects"
    )
    may_name_reviewer: bool = Field(
        False, description="whether it may act for others by Secondlook-Reviewer"
    )
    expires_at: Moment | None = None


class KeyOut(Answer):
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
    key: str = Field(description="shown this once")
