"""Dawid and Skene's model: who is right, when raters differ in skill.

Each rater has a confusion matrix, each item a true class drawn from shared class shares; given the
truth, ratings are independent. The EM algorithm of Dawid and Skene 1979 finds all three at once, so
a careful minority can outvote a careless majority, and a rater who always errs the same way is read
the other way round.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMOOTHING = 0.01
"""Pseudo-ratings added to every cell of a rater's confusion matrix, so that no rating of a rater
who gave few makes a class impossible. At 0 the fit is plain maximum likelihood."""


@dataclass(frozen=True, eq=False)
class DawidSkene:
    """A fitted model; classes are the categories, by index.

    Attributes:
        posterior: P(true class | ratings), shape [item, class]; the class shares where an item has
            no rating.
        shares: Share of each class, shape [class].
        confusion: P(rating | true class) of each rater, shape [rater, true, rated].
        log_likelihood: Of the ratings, at the fit (natural logarithm).
        iterations: EM steps taken.
        converged: Whether the last step moved every posterior by less than the tolerance.
    """

    posterior: Floats
    shares: Floats
    confusion: Floats
    log_likelihood: float
    iterations: int
    converged: bool

    @property
    def labels(self) -> Ints:
        """Most probable class of each item; the lowest index in a tie."""
        return np.asarray(self.posterior.argmax(axis=1))

    @property
    def rater_accuracy(self) -> Floats:
        """P(rating = true class) of each rater over the class shares, shape [rater]."""
        return np.asarray(np.einsum("k,rkk->r", self.shares, self.confusion))


def vote_shares(
    items: ArrayLike, categories: ArrayLike, *, n_items: int, n_categories: int
) -> Floats:
    """Share of each category among the ratings of each item; uniform without ratings."""
    flat = np.asarray(items) * n_categories + np.asarray(categories)
    votes = np.bincount(flat, minlength=n_items * n_categories).reshape(n_items, n_categories)
    total = votes.sum(axis=1, keepdims=True)
    return np.where(total > 0, votes / np.maximum(total, 1), 1 / n_categories)


def dawid_skene(
    items: ArrayLike,
    raters: ArrayLike,
    categories: ArrayLike,
    *,
    n_items: int,
    n_raters: int,
    n_categories: int,
    smoothing: float = SMOOTHING,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> DawidSkene:
    """Fit by EM from the vote shares; deterministic.

    Args:
        items: Item of each rating, shape [ratings], 0 ... n_items - 1.
        raters: Rater of each rating, 0 ... n_raters - 1; one may rate an item more than once.
        categories: Category of each rating, 0 ... n_categories - 1.
        n_items: Items in all.
        n_raters: Raters in all.
        n_categories: Categories in all, true classes being the same.
        smoothing: Pseudo-ratings in each cell of a confusion matrix, at least 0.
        tolerance: Largest change of a posterior at which the fit has converged.
        max_iterations: EM steps at most.

    Raises:
        ValueError: Columns of different length, an index out of range, or no rating at all.
    """
    item, rater, rated = (np.asarray(column, np.int64) for column in (items, raters, categories))
    if not item.shape == rater.shape == rated.shape or item.ndim != 1 or not item.size:
        raise ValueError("items, raters and categories must be of one length, above 0")
    for column, size in ((item, n_items), (rater, n_raters), (rated, n_categories)):
        if column.min() < 0 or column.max() >= size:
            raise ValueError("an index is out of range")
    # ratings alike in rater and category share a row of the confusion matrices
    cell = rater * n_categories + rated
    posterior = vote_shares(item, rated, n_items=n_items, n_categories=n_categories)
    change = math.inf
    log_likelihood, iterations = -math.inf, 0
    shares, confusion = posterior.mean(axis=0), np.zeros((n_raters, n_categories, n_categories))
    while change > tolerance and iterations < max_iterations:
        iterations += 1
        shares = posterior.mean(axis=0)
        by_truth = [
            np.bincount(cell, weights=posterior[item, k], minlength=n_raters * n_categories)
            for k in range(n_categories)
        ]
        tally = np.array(by_truth, float).reshape(n_categories, n_raters, n_categories)
        tally = tally.swapaxes(0, 1) + smoothing  # [rater, true, rated]
        total = tally.sum(axis=2, keepdims=True)
        confusion = np.where(total > 0, tally / np.maximum(total, 1e-300), 1 / n_categories)
        with np.errstate(divide="ignore"):
            log_shares, log_confusion = np.log(shares), np.log(confusion)
        by_cell = log_confusion.transpose(0, 2, 1).reshape(-1, n_categories)
        joint = np.tile(log_shares, (n_items, 1))
        for k in range(n_categories):
            joint[:, k] += np.bincount(item, weights=by_cell[cell, k], minlength=n_items)
        top = joint.max(axis=1, keepdims=True)
        scaled = np.exp(joint - top)
        evidence = scaled.sum(axis=1, keepdims=True)
        log_likelihood = float((np.log(evidence) + top).sum())
        updated = scaled / evidence
        change = float(np.abs(updated - posterior).max())
        posterior = updated
    return DawidSkene(
        posterior=posterior,
        shares=shares,
        confusion=confusion,
        log_likelihood=log_likelihood,
        iterations=iterations,
        converged=change <= tolerance,
    )
