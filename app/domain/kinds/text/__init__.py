"""Free text: a summary, a translation, an answer."""

from app.domain.kinds.text.schema import TextSchema

__all__ = ["TextSchema"]
