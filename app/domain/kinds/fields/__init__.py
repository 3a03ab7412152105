"""Named values taken from an item: texts, numbers, dates, lists and choices."""

from app.domain.kinds.fields.schema import FieldsSchema

__all__ = ["FieldsSchema"]
