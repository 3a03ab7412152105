"""The bundled sample: companies with a one-line description, written for this project."""

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

SAMPLE = "companies.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """One row. `also` is a second industry that a fair reader could name, or empty."""

    id: str
    name: str
    description: str
    industry: str
    split: str
    also: str

    @property
    def text(self) -> str:
        """What is sent to be labelled."""
        return f"{self.name}: {self.description}"


@lru_cache(maxsize=1)
def companies() -> tuple[Company, ...]:
    """All rows: the training part first, then the part to stream, mixed across industries."""
    lines = files(__package__).joinpath(SAMPLE).read_text(encoding="utf-8").splitlines()
    return tuple(Company(**row) for row in csv.DictReader(lines))


def part(split: Literal["train", "stream"]) -> tuple[Company, ...]:
    """The rows of one split."""
    return tuple(company for company in companies() if company.split == split)


def industries() -> tuple[str, ...]:
    """The closed set of labels, in alphabetical order."""
    return tuple(sorted({company.industry for company in companies()}))
