"""Agreement among the people who rated the same items: all coefficients of a set of ratings.

Kappa collapses when one category is common (Feinstein and Cicchetti 1990) and AC1 does not, so the
two are shown side by side. Definitions and intervals are in `coefficients` and `kappa`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.coefficients import (
    Metric,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    percent_agreement,
)
from app.domain.intervals import LEVEL, Estimate, Population
from app.domain.kappa import cohen_kappa

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings in long form, coded.

    Attributes:
        items: Item of each rating, 0 ... n_items - 1.
        raters: Rater of each rating, 0 ... n_raters - 1.
        categories: Category of each rating, an index into `values`.
        values: The categories in order (numbers by size), so that ordinal figures mean something.
        n_items: Items in all.
        n_raters: Raters in all.
    """

    items: Ints
    raters: Ints
    categories: Ints
    values: tuple[str, ...]
    n_items: int
    n_raters: int

    def counts(self) -> Ints:
        """Ratings of each item in each category, shape [item, category]."""
        shape = (self.n_items, len(self.values))
        flat = np.ravel_multi_index((self.items, self.categories), shape)
        return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)


def numbers_of(values: Sequence[str]) -> Floats | None:
    """The categories as finite numbers; None unless all of them are."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def encode(triples: Sequence[tuple[str, str, str]]) -> Ratings:
    """Code (item, rater, rating) triples.

    Categories are ordered as numbers when all are numbers ("2" before "10", "1" and "1.0" one
    category), else as text.
    """
    ratings = [rating for _, _, rating in triples]
    distinct = sorted(set(ratings))
    numbers = numbers_of(distinct)
    if numbers is None:
        values, code = distinct, {value: i for i, value in enumerate(distinct)}
    else:
        unique = np.unique(numbers)
        values = [f"{number:.15g}" for number in unique]
        code = dict(zip(distinct, np.searchsorted(unique, numbers).tolist(), strict=True))
    item_of = {name: i for i, name in enumerate(dict.fromkeys(item for item, _, _ in triples))}
    rater_of = {name: i for i, name in enumerate(dict.fromkeys(rater for _, rater, _ in triples))}
    return Ratings(
        items=np.array([item_of[item] for item, _, _ in triples], np.int64),
        raters=np.array([rater_of[rater] for _, rater, _ in triples], np.int64),
        categories=np.array([code[rating] for rating in ratings], np.int64),
        values=tuple(values),
        n_items=len(item_of),
        n_raters=len(rater_of),
    )


@dataclass(frozen=True, slots=True)
class RaterAgreement:
    """Agreement among the people who rated the same items.

    Attributes:
        items: Items with two ratings or more.
        lone_items: Items that one person alone rated.
        raters: People in all.
        percent: Chance that two ratings of one item are equal, averaged over items.
        fleiss_kappa: Fleiss' kappa (chance: the categories' shares, squared).
        gwet_ac1: Gwet's AC1 (chance: what raters who guess would share).
        alpha: Krippendorff's alpha by metric; `INTERVAL` only where the categories are numbers.
        cohen_kappa: Cohen's kappa where there are exactly two raters, unweighted.
    """

    items: int
    lone_items: int
    raters: int
    percent: Estimate
    fleiss_kappa: Estimate
    gwet_ac1: Estimate
    alpha: dict[Metric, Estimate]
    cohen_kappa: Estimate | None


def rater_agreement(
    ratings: Ratings, *, what: str = "the items rated by two or more", level: float = LEVEL
) -> RaterAgreement:
    """All coefficients of one set of ratings.

    A person who rated an item twice counts as two ratings of it, but has no place in Cohen's kappa,
    which is then left out.
    """
    counts = ratings.counts()
    raters_per_item = counts.sum(axis=1)
    paired = int((raters_per_item >= 2).sum())
    population = Population(what, paired)
    values = numbers_of(ratings.values)
    metrics = [Metric.NOMINAL, Metric.ORDINAL] + ([Metric.INTERVAL] if values is not None else [])
    return RaterAgreement(
        items=paired,
        lone_items=int((raters_per_item == 1).sum()),
        raters=ratings.n_raters,
        percent=percent_agreement(counts, population=population, level=level),
        fleiss_kappa=fleiss_kappa(counts, population=population, level=level),
        gwet_ac1=gwet_ac1(counts, population=population, level=level),
        alpha={
            metric: krippendorff_alpha(
                counts, metric=metric, values=values, population=population, level=level
            )
            for metric in metrics
        },
        cohen_kappa=_cohen(ratings, population=population, level=level),
    )


def _cohen(ratings: Ratings, *, population: Population, level: float) -> Estimate | None:
    """Cohen's kappa of the items both of two raters rated, once each; None in any other case."""
    if ratings.n_raters != 2:
        return None
    by_rater = np.full((ratings.n_items, 2), -1)
    by_rater[ratings.items, ratings.raters] = ratings.categories
    if (by_rater >= 0).sum() != len(ratings.items):
        return None
    both = by_rater[(by_rater >= 0).all(axis=1)]
    k = len(ratings.values)
    table = np.zeros((k, k), np.int64)
    np.add.at(table, (both[:, 0], both[:, 1]), 1)
    return cohen_kappa(table, population=population, level=level)
