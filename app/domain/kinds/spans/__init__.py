"""Entities: stretches of the item's text, each with a label."""

from app.domain.kinds.spans.schema import SpansSchema

__all__ = ["SpansSchema"]
