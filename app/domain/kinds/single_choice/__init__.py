"""Exactly one of a closed set of labels."""

from app.domain.kinds.single_choice.schema import SingleChoiceSchema

__all__ = ["SingleChoiceSchema"]
