"""The stored score ranks the answers of real models as their logs' own confidence does.

A log has, for each question, the confidence of the answer and the probabilities of the letters
among the tokens that the endpoint listed. Its confidence is the probability of the likeliest of the
ten listed tokens as a share of all ten (case and spaces merged), be they letters or not: the mass
off the labels is doubt, as it is in our confidence and its logit, and is not in `p_norm`.

MANIFEST.json tells the AUROC of that confidence over all rows. In some rows the likeliest token is
no letter ("the", "none"): to us they have no label and no score, and go to people first. Where all
rows are compared these keep the logged confidence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.domain.confidence import ChoiceScore, score_choice
from app.domain.intervals import Population
from app.domain.labels import LabelSet
from app.domain.ranking import auroc, rank
from app.domain.tokens import Alternative, Token

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LETTERS = LabelSet.of("ABCD")
LOG = Population("the log")

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the shared prediction logs are not beside this checkout"
)


@dataclass(frozen=True)
class Log:
    """A log, scored.

    Attributes:
        confidences: as logged.
        scores: None where the likeliest token is no letter.
        correct: whether the likeliest token is the right letter.
        measured: what the manifest says.
    """

    confidences: Sequence[float]
    scores: Sequence[ChoiceScore | None]
    correct: Sequence[bool]
    measured: dict[str, Any]


def among_labels(score: ChoiceScore) -> float:
    """The log-odds if the mass off the labels were no doubt: those of `p_norm`, not saturated."""
    own = next(each.mass for each in score.masses if each.label == score.label)
    others = math.fsum(each.mass for each in score.masses if each.label != score.label)
    return math.log(own) - math.log(max(others + score.ambiguous, 2.0**-60))


def log_odds(p: float) -> float:
    return math.log(p) - math.log(max(1.0 - p, 2.0**-60))


FIGURES: dict[str, tuple[Callable[[ChoiceScore], float], Callable[[float], float]]] = {
    # the figure, and the logged confidence on its scale
    "p_raw": (lambda score: score.p_raw, lambda p: p),
    "p_norm": (lambda score: score.p_norm, lambda p: p),
    "logit without off-label": (among_labels, log_odds),
    "logit": (lambda score: score.logit, log_odds),
}

# by log and figure the AUROC of: rows with a letter; all rows, those without a letter last, as
# the service has them; all rows, those without a letter where the log has them
AUROC = {
    "mmlu_gpt4o_direct": {  # stated .8241
        "p_raw": (0.8232, 0.8244, 0.8241),
        "p_norm": (0.8233, 0.8246, 0.8243),
        "logit without off-label": (0.8233, 0.8246, 0.8243),
        "logit": (0.8232, 0.8244, 0.8241),
    },
    "mmlu_gpt4o_afterthinking": {  # stated .7617
        "p_raw": (0.7514, 0.7620, 0.7617),
        "p_norm": (0.7463, 0.7571, 0.7568),
        "logit without off-label": (0.7463, 0.7571, 0.7568),
        "logit": (0.7514, 0.7621, 0.7617),
    },
    "mmlu_gpt4o-mini_direct": {  # stated .7998
        "p_raw": (0.7989, 0.8017, 0.7998),
        "p_norm": (0.8007, 0.8034, 0.8015),
        "logit without off-label": (0.8008, 0.8036, 0.8017),
        "logit": (0.7989, 0.8017, 0.7997),
    },
    "mmlu_gpt4o-mini_afterthinking": {  # stated .7029
        "p_raw": (0.6995, 0.7036, 0.7029),
        "p_norm": (0.7056, 0.7096, 0.7090),
        "logit without off-label": (0.7067, 0.7107, 0.7101),
        "logit": (0.6991, 0.7032, 0.7025),
    },
}


@cache
def read(name: str) -> Log:
    entries = json.loads((SHARED / "MANIFEST.json").read_text())
    (entry,) = [each for each in entries if Path(each["file"]).stem == name]
    lines = (SHARED / "predictions" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return Log(
        confidences=[row["confidence"] for row in rows],
        scores=[scored(row) for row in rows],
        correct=[row["prediction"] == row["label"] for row in rows],
        measured=entry["measured"],
    )


def scored(row: dict[str, Any]) -> ChoiceScore | None:
    """The score of the answer that the row tells of."""
    label, p = row["prediction"], row["confidence"]
    if label not in LETTERS.names:
        return None
    listed = {label: p} | {
        letter: other for letter, other in row["probs"].items() if letter != label and other > 0.0
    }
    # a share of ten tokens is told, so the rest is theirs that are no letters
    if (rest := 1.0 - math.fsum(listed.values())) > 0.0:
        listed["?"] = rest
    alternatives = tuple(Alternative(text.encode(), math.log(q)) for text, q in listed.items())
    tokens = (
        Token(b'{"label":"', 0.0, ()),
        Token(label.encode(), math.log(p), alternatives),
        Token(b'"}', 0.0, ()),
    )
    score = score_choice(
        tokens,
        data=b"".join(token.data for token in tokens),
        begin=0,
        field="label",
        labels=LETTERS,
        chosen=label,
    )
    assert isinstance(score, ChoiceScore)
    return score


def area(scores: Sequence[float], correct: Sequence[bool]) -> float:
    found = auroc(rank(scores, correct, population=LOG)).value
    assert found is not None
    return found


def figures(log: Log, figure: str) -> tuple[list[float], list[float], list[float]]:
    """Of the rows with a letter; of all, the others last; of all, the others as logged."""
    of, as_logged = FIGURES[figure]
    known = [of(score) for score in log.scores if score is not None]
    last = [-math.inf if score is None else of(score) for score in log.scores]
    kept = [
        as_logged(p) if score is None else of(score)
        for p, score in zip(log.confidences, log.scores, strict=True)
    ]
    return known, last, kept


@pytest.mark.parametrize("name", AUROC)
class TestOurFigures:
    @pytest.mark.parametrize("figure", FIGURES)
    def test_rank_as_the_table_says(self, name: str, figure: str) -> None:
        log = read(name)
        known, last, kept = figures(log, figure)
        answered = [
            right for right, score in zip(log.correct, log.scores, strict=True) if score is not None
        ]
        measured = area(known, answered), area(last, log.correct), area(kept, log.correct)
        assert measured == pytest.approx(AUROC[name][figure], abs=6e-5)

    def test_the_stored_score_ranks_as_the_log_does(self, name: str) -> None:
        """The requirement: the AUROC that MANIFEST.json states, distinct scores kept."""
        log = read(name)
        stated = log.measured["auroc"]
        assert area(log.confidences, log.correct) == pytest.approx(stated, abs=1e-3)
        _, _, kept = figures(log, "logit")
        assert area(kept, log.correct) == pytest.approx(stated, abs=1e-3)
        assert len(set(kept)) >= log.measured["distinct_conf"]

    def test_a_probability_saturates_where_its_logit_does_not(self, name: str) -> None:
        log = read(name)
        for probability, logit in (("confidence", "logit"), ("p_norm", "logit without off-label")):
            shares = {getattr(score, probability) for score in log.scores if score is not None}
            known, _, _ = figures(log, logit)
            assert len(shares) < len(set(known))
