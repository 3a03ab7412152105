"""Which texts PostgreSQL can store."""

from __future__ import annotations


def unstorable(value: str) -> str | None:
    """Why PostgreSQL can't store a text, None if it can."""
    nul = value.find("\0")
    if nul >= 0:
        return f"has a NUL character at position {nul}"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"has a lone surrogate at position {error.start}"
    return None
