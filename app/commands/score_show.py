"""How `secondlook score` tells what a saved answer came to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from app.labeling.saved import Scored

FIGURES: Final = ("p_raw", "p_norm", "margin", "entropy", "off_label", "ambiguous", "unseen")
_MOST_SHOWN: Final = 20
_WIDTH: Final = 12


def as_dict(scored: Scored | None, *, line: int | None, error: str | None) -> dict[str, Any]:
    """The result as JSON, always with the same names; null is unknown, or does not apply.

    Args:
        scored: None where there is an error.
        line: of JSON Lines.
        error: why the line is no answer.
    """
    score = scored.score if scored else None
    unknown = scored.unknown if scored else None
    return {
        "line": line,
        "label": scored.label if scored else None,
        "confidence": score.confidence if score else None,
        "source": scored.source if scored else None,
        "logit": score.logit if score else None,
        **{name: getattr(score, name) if score else None for name in FIGURES},
        "alternatives": (
            [{"label": each.label, "probability": each.mass} for each in score.alternatives]
            if score
            else None
        ),
        "reason": str(unknown.reason) if unknown else None,
        "detail": unknown.detail if unknown else None,
        "model": scored.model if scored else None,
        "error": error,
    }


def as_json(result: dict[str, Any]) -> str:
    """On one line, so that results are JSON Lines too."""
    return json.dumps(result, ensure_ascii=False, allow_nan=False)


def as_text(scored: Scored) -> str:
    """For people, on several lines."""
    return "\n".join(_lines(scored))


def as_row(scored: Scored, *, line: int) -> str:
    """For people, on one line."""
    label = "no label" if scored.label is None else scored.label
    if scored.score is None:
        return f"line {line}: {label}: {_why(scored)}"
    score = scored.score
    names = ("confidence", "p_raw", "p_norm", "margin", "logit")
    figures = (f"{name} {_number(getattr(score, name))}" for name in names)
    return f"line {line}: {label}: {', '.join(figures)}"


def _lines(scored: Scored) -> Iterator[str]:
    yield _row("label", scored.label or "none")
    if scored.model:
        yield _row("model", scored.model)
    if scored.score is None:
        yield _row("confidence", f"unknown: {_why(scored)}")
        return
    score = scored.score
    yield _row("confidence", _number(score.confidence))
    for name in FIGURES:
        if getattr(score, name) is not None:
            yield _row(name, _number(getattr(score, name)))
    yield _row("logit", _number(score.logit))
    shown = [each for each in score.alternatives if each.mass > 0.0][:_MOST_SHOWN]
    for number, each in enumerate(shown):
        yield _row("" if number else "alternatives", f"{_number(each.mass):<16} {each.label}")
    if others := len(score.alternatives) - len(shown):
        yield _row("", f"and {others} more of less or no probability")


def _why(scored: Scored) -> str:
    assert scored.unknown is not None  # exactly where there is no score
    return f"{scored.unknown.reason}: {scored.unknown.detail}"


def _row(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}}  {value}"


def _number(value: float) -> str:
    return f"{value:.12g}"
