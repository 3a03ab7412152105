"""Regions of an image: boxes and masks, from elsewhere."""

from app.domain.kinds.regions.schema import RegionsSchema
from app.domain.kinds.regions.score import score_of_regions

__all__ = ["RegionsSchema", "score_of_regions"]
