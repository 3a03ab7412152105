"""A second opinion on how sure the model was: score versions trained on the train face.

A stacker is a ridge logistic regression of "the label is right" on the model's own evidence and on
a linear probe that read the item itself. It learns from train-face reviews only, which no
certificate ever counts, and is then frozen: so old audits may be scored anew by it, and its
certificates hold at its own share of delta (`guarantee.spent_delta`), promoted or not.

Sources: Wolpert 1992 (stacking, with out-of-fold predictions of the lower level); Weinberger et al.
2009 (feature hashing). Scores are log-odds; larger is more certain; -inf is an unknown confidence.
"""

import itertools
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from app.domain.guarantee import Bools, Floats

TRAIN_FROM = 300
"""Train-face reviews before the first stacker is trained."""
FOLDS = 5
Matrix = Floats | sparse.csr_array


def fit_logistic(features: Floats, outcome: Bools, *, penalty: float) -> Floats:
    """Intercept and slopes of a ridge logistic regression, by Newton's method.

    `features` is (items, features) and should be scaled; the penalty is `penalty / 2` times the sum
    of squared slopes, the intercept is free. A positive penalty keeps separable data finite; with
    one outcome only, the intercept is bounded by half a pseudo-observation of the other.
    """
    n, width = features.shape
    design = np.column_stack([np.ones(n), features])
    mean = (outcome.sum() + 0.5) / (n + 1)
    ridge = np.full(width + 1, penalty)
    ridge[0] = 0.0
    beta = np.zeros(width + 1)
    beta[0] = math.log(mean / (1 - mean))
    if outcome.all() or not outcome.any():
        return beta

    def loss(at: Floats) -> float:
        return float(np.logaddexp(0, np.where(outcome, -1, 1) * (design @ at)).sum()) + float(
            0.5 * ridge @ at**2
        )

    current = loss(beta)
    for _ in range(50):
        p = expit(design @ beta)
        gradient = design.T @ (p - outcome) + ridge * beta
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        while (tried := loss(beta - step)) > current + 1e-12 and np.abs(step).max() > 1e-10:
            step = step / 2
        beta, gained, current = beta - step, current - tried, tried
        if gained < 1e-9:
            break
    return np.asarray(beta, float)


def hashed_tfidf(texts: Sequence[str], *, size: int = 1 << 13) -> sparse.csr_array:
    """TF-IDF of words and word pairs, hashed to `size` columns, rows of unit length.

    The document frequencies are those of `texts`, so pass all items (no verdict is looked at). The
    hash is CRC-32: the same in every process. An empty text is a row of zeros.
    """
    rows: list[int] = []
    columns: list[int] = []
    for row, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        pairs = [f"{a} {b}" for a, b in itertools.pairwise(words)]
        for token in words + pairs:
            rows.append(row)
            columns.append(zlib.crc32(token.encode()) % size)
    counts = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(texts), size))
    counts.sum_duplicates()
    documents = np.bincount(counts.indices, minlength=size)
    weighted = counts.copy()
    weighted.data = (1 + np.log(counts.data)) * (
        1 + np.log((1 + len(texts)) / (1 + documents[counts.indices]))
    )
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(norms, 1e-12)) @ weighted)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Multinomial ridge regression from an item's vector to its label."""

    labels: tuple[str, ...]
    weights: Floats
    """(features + 1, labels); the last row is the intercept."""

    @classmethod
    def fit(cls, vectors: Matrix, truth: Sequence[str], *, penalty: float = 0.02) -> "LinearProbe":
        """Train on reviewed items: TF-IDF rows or embeddings, and the people's labels."""
        labels = tuple(sorted(set(truth)))
        index = {label: i for i, label in enumerate(labels)}
        rows = vectors.shape[0]
        target = np.zeros((rows, len(labels)))
        target[np.arange(rows), [index[each] for each in truth]] = 1
        # The best weights lie in the span of the rows, so few reviews of long vectors make a small
        # problem: any factor with the same inner products (here Cholesky's) has the same solution.
        products = (
            np.asarray((vectors @ vectors.T).todense())
            if sparse.issparse(vectors)
            else (vectors @ vectors.T)
        )
        factor = cholesky(products + 1e-9 * np.eye(rows), lower=True)
        strength = penalty / rows**0.5

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(rows + 1, len(labels))
            logits = factor @ weights[:-1] + weights[-1]
            error = (softmax(logits, axis=1) - target) / rows
            gradient = np.vstack([factor.T @ error + strength * weights[:-1], error.sum(0)])
            value = -(target * log_softmax(logits, axis=1)).sum() / rows
            value += 0.5 * strength * (weights[:-1] ** 2).sum()
            return float(value), gradient.ravel()

        start = np.zeros((rows + 1) * len(labels))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
        small = np.asarray(found.x, float).reshape(rows + 1, len(labels))
        weights = vectors.T @ solve_triangular(factor.T, small[:-1])
        return cls(labels, np.vstack([np.asarray(weights), small[-1]]))

    def probability(self, vectors: Matrix, labels: Sequence[str]) -> Floats:
        """Probability of the given label for each row; 0 for a label never seen."""
        logits = np.asarray(vectors @ self.weights[:-1]) + self.weights[-1]
        table = np.column_stack([softmax(logits, axis=1), np.zeros(len(labels))])
        index = {label: i for i, label in enumerate(self.labels)}
        columns = [index.get(each, len(self.labels)) for each in labels]
        return np.asarray(table[np.arange(len(labels)), columns], float)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of each item's prediction, as arrays of one length.

    `logit` is -inf where the confidence is unknown. `votes` is the share of answers that agreed
    (1 where the model was asked once); `vectors` are TF-IDF rows or embeddings, or None.
    """

    labels: Sequence[str]
    logit: Floats
    margin: Floats
    entropy: Floats
    votes: Floats
    vectors: Matrix | None = None

    def take(self, rows: NDArray[np.intp]) -> "Evidence":
        """The evidence of some items."""
        return Evidence(
            [self.labels[i] for i in rows.tolist()],
            self.logit[rows],
            self.margin[rows],
            self.entropy[rows],
            self.votes[rows],
            None if self.vectors is None else self.vectors[rows],
        )


@dataclass(frozen=True, eq=False)
class Stacker:
    """A frozen score version."""

    labels: tuple[str, ...]
    centre: Floats
    scale: Floats
    slopes: Floats
    """Intercept, numeric features, one for each of `labels`."""
    probe: LinearProbe | None

    @classmethod
    def fit(
        cls, evidence: Evidence, truth: Sequence[str], right: Bools, *, penalty: float = 1.0
    ) -> "Stacker":
        """Train on the train face: the evidence, the people's labels and whether the model agreed.

        The probe's column is out of fold (`FOLDS`, by position, so pass rank order), as its own
        training items would flatter it. Raises ValueError for fewer than `TRAIN_FROM` items.
        """
        n = len(right)
        if n < TRAIN_FROM:
            raise ValueError(f"a stacker takes {TRAIN_FROM} train reviews, not {n}")
        labels = tuple(sorted(set(evidence.labels)))
        probe, column = None, np.zeros(n)
        if evidence.vectors is not None:
            fold = np.arange(n) % FOLDS
            for held in range(FOLDS):
                rows, out = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
                fitted = LinearProbe.fit(evidence.vectors[rows], [truth[i] for i in rows.tolist()])
                column[out] = fitted.probability(
                    evidence.vectors[out], [evidence.labels[i] for i in out.tolist()]
                )
            probe = LinearProbe.fit(evidence.vectors, truth)
        numeric = _numeric(evidence, column)
        centre, scale = numeric.mean(0), np.maximum(numeric.std(0), 1e-9)
        design = np.column_stack([(numeric - centre) / scale, _one_hot(evidence.labels, labels)])
        return cls(labels, centre, scale, fit_logistic(design, right, penalty=penalty), probe)

    def score(self, evidence: Evidence) -> Floats:
        """Log-odds that each label is right; -inf stays where the confidence is unknown."""
        column = np.zeros(len(evidence.labels))
        if self.probe is not None:
            if evidence.vectors is None:
                raise ValueError("this stacker was trained with item vectors and needs them")
            column = self.probe.probability(evidence.vectors, evidence.labels)
        numeric = (_numeric(evidence, column) - self.centre) / self.scale
        design = np.column_stack([numeric, _one_hot(evidence.labels, self.labels)])
        scores = self.slopes[0] + design @ self.slopes[1:]
        return np.where(evidence.logit > -np.inf, scores, -np.inf)


def promotes(*, current: float, candidate: float) -> bool:
    """Whether a trained version takes over: its certified share must exceed the one in force.

    Choosing the better of several is allowed because each spent its own share of delta.
    """
    return candidate > current


def _numeric(evidence: Evidence, probe: Floats) -> Floats:
    # log-odds beyond 40 are saturation; unclipped they would be all the scaling sees
    logit = np.clip(evidence.logit, -40, 40)
    return np.column_stack([logit, evidence.margin, evidence.entropy, evidence.votes, probe])


def _one_hot(labels: Sequence[str], known: tuple[str, ...]) -> Floats:
    index = {label: i for i, label in enumerate(known)}
    out = np.zeros((len(labels), len(known)))
    for row, label in enumerate(labels):
        if label in index:
            out[row, index[label]] = 1
    return out
