"""The demo's labeler: TF-IDF and logistic regression. Not a language model, and named so.

It exists so that the demo and the tests have a model whose confidence is real: it is trained in
about a second on the 200 training rows of the bundled sample, it errs where the text is ambiguous,
and its probabilities are its own. See docs/decisions/0005-demo-model.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Self

import numpy as np
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from app.demo.sample import Company

# Inverse strength of the L2 penalty: the least log-loss of 10-fold cross-validations on the
# training rows alone, among 3, 10, … 30000. The decision record has the table.
_C = 3000.0


def fit(rows: Sequence[Company]) -> Pipeline:
    """Words, pieces of words, and a logistic regression over both; deterministic."""
    words = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode")
    pieces = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, strip_accents="unicode"
    )
    pipeline = Pipeline(
        [
            ("features", FeatureUnion([("words", words), ("pieces", pieces)])),
            ("labels", LogisticRegression(C=_C, max_iter=1000)),
        ]
    )
    # The matrices are tiny: a second thread costs more in waiting than it computes.
    with threadpool_limits(1):
        return pipeline.fit([row.text for row in rows], [row.industry for row in rows])


class DemoModel:
    """A fitted classifier of a company's description into one of the sample's industries.

    It computes what the pipeline's predict_proba would, ten times as fast for one text: nearly
    all the time of scikit-learn goes into checking a matrix of one row.
    """

    def __init__(self, pipeline: Pipeline, *, fingerprint: str) -> None:
        regression = pipeline["labels"]
        self.labels: tuple[str, ...] = tuple(str(label) for label in regression.classes_)
        self.fingerprint = fingerprint
        self._intercepts = regression.intercept_
        self._parts = []
        start = 0
        for _, vectorizer in pipeline["features"].transformer_list:
            stop = start + len(vectorizer.vocabulary_)
            # a term's weight for each label, its inverse document frequency included
            weights = regression.coef_[:, start:stop].T * vectorizer.idf_[:, None]
            self._parts.append((vectorizer.build_analyzer(), vectorizer, weights))
            start = stop

    @classmethod
    def train(cls, rows: Sequence[Company]) -> Self:
        """Fit on the rows; the same rows give the same model and the same fingerprint."""
        seen = "\n".join(f"{row.text}\t{row.industry}" for row in rows)
        digest = blake2b(f"{_C}\n{seen}".encode(), digest_size=5).hexdigest()
        return cls(fit(rows), fingerprint=f"fp_{digest}")

    def probabilities(self, text: str) -> Mapping[str, float]:
        """The probability of every label; they sum to 1. An empty text gives the priors."""
        scores = self._intercepts.copy()
        for analyze, vectorizer, weights in self._parts:
            vocabulary = vectorizer.vocabulary_
            counts = Counter(vocabulary[term] for term in analyze(text) if term in vocabulary)
            if counts:
                columns = np.fromiter(counts.keys(), int)
                tf = 1 + np.log(np.fromiter(counts.values(), float))
                norm = np.linalg.norm(tf * vectorizer.idf_[columns])
                scores += tf @ weights[columns] / norm
        return dict(zip(self.labels, softmax(scores).tolist(), strict=True))
