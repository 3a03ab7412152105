"""Any number of a set of labels, each by itself."""

from app.domain.kinds.multi_choice.schema import MultiChoiceSchema

__all__ = ["MultiChoiceSchema"]
