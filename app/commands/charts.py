"""Two charts as SVG: the reliability diagram and the risk-coverage curve.

Plain SVG text without a plotting library. Colours follow the reader's light or dark scheme (viewers
without media queries get the light one), and nothing is told by colour alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from scipy import special

from app.domain.evaluation import Evaluation
from app.domain.intervals import Estimate
from app.domain.reliability import Reliability

WIDTH, HEIGHT = 640, 480
LEFT, RIGHT, TOP, BOTTOM = 72, WIDTH - 24, 76, HEIGHT - 60
MOST_POINTS = 400
MOST_ODDS = 6

STYLE = """
svg { color-scheme: light dark; }
text { font: 13px system-ui, sans-serif; fill: #1c2024; }
.title { font-size: 17px; font-weight: 600; }
.mute { fill: #5c6570; }
.name { fill: #a34008; }
.ground { fill: #ffffff; }
.grid { stroke: #e1e4e8; }
.axis, .ideal { stroke: #5c6570; fill: none; }
.ideal { stroke-width: 1.5; stroke-dasharray: 5 4; }
.curve, .whisker { stroke: #1f5fb4; stroke-width: 2; fill: none; }
.band { fill: #1f5fb4; opacity: 0.18; }
.dot { fill: #1f5fb4; }
.pin { stroke: #a34008; stroke-width: 1.5; fill: none; }
.halo { stroke: #ffffff; stroke-width: 4; stroke-linejoin: round; paint-order: stroke; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ec; } .mute { fill: #9aa4ae; } .name { fill: #f2a268; }
  .ground { fill: #14171a; } .grid { stroke: #2c3238; }
  .axis, .ideal { stroke: #9aa4ae; } .curve, .whisker { stroke: #7fb2f5; }
  .band, .dot { fill: #7fb2f5; } .pin { stroke: #f2a268; } .halo { stroke: #14171a; }
}
"""


@dataclass(frozen=True)
class Axis:
    """One axis: where a value lies in pixels, and the values that are written beside it."""

    label: str
    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def percent(estimate: Estimate, digits: int = 1) -> str:
    """A share in per cent with its interval; "unknown" without a value."""
    if estimate.value is None:
        return "unknown"
    return f"{estimate.value:.{digits}%} ({estimate.low:.{digits}%} to {estimate.high:.{digits}%})"


def reliability_diagram(calibration: Reliability) -> str:
    """Accuracy against mean confidence of each bin, with Wilson's intervals, as SVG text.

    Confidences of language models crowd against 1; where a third of the bins lie above 0.99 they
    are drawn on the scale of their log-odds, and perfect calibration is a curve.
    """
    bins = calibration.bins
    means = [each.mean_confidence for each in bins]
    low = math.floor(10 * min([*means, *(each.accuracy.low for each in bins)], default=0.0)) / 10
    low = min(low, 0.9)
    name = "mean confidence of the bin"
    crowded = 3 * sum(mean > 0.99 for mean in means) >= max(len(bins), 1)
    x = _odds_axis(name, min(means), max(means)) if crowded else _axis(name, low, 1.0, LEFT, RIGHT)
    y = _axis("labels that are right", low, 1.0, BOTTOM, TOP)
    if crowded:
        ends = (_odds(max(min(means), low)), _odds(max(means)))
        ideal = [float(special.expit(at)) for at in np.linspace(*ends, 200)]
    else:
        ideal = [low, 1.0]
    parts = [_line("ideal", x, y, [(each, each) for each in ideal])]
    for each in bins:
        mean, share = each.mean_confidence, each.accuracy
        told = f"confidence {each.low:.12g} to {each.high:.12g}: {percent(share)} right"
        dot = _element(
            "circle",
            _element("title", escape(f"{told} of {share.n}")),
            class_="dot",
            cx=x.place(mean),
            cy=y.place(share.value or 0.0),
            r=4,
        )
        parts += [_line("whisker", x, y, [(mean, share.low), (mean, share.high)]), dot]
    size = f"{calibration.ece.n} items in {len(bins)} bins"
    return _frame(
        title="Reliability diagram",
        subtitle=f"{size}; calibration error {percent(calibration.ece)}; dashed: ideal",
        axes=(x, y),
        parts=parts,
    )


def risk_coverage_chart(evaluation: Evaluation) -> str:
    """Error among the accepted against the accepted share, with the promise's bound, as SVG text.

    The promise "at most alpha of all items are accepted and wrong" is the curve alpha/share: where
    the measured curve crosses it for good stands the oracle, and to its left the certified share.
    """
    curve, alpha = evaluation.curve, 1 - evaluation.target
    top = min(1.0, max(1.15 * float(curve.risk[-1]), 4 * alpha, 0.01))
    x = _axis("share accepted, most confident first", 0.0, 1.0, LEFT, RIGHT)
    y = _axis("wrong among the accepted", 0.0, top, BOTTOM, TOP)
    keep = np.unique(np.linspace(0, len(curve.coverage) - 1, MOST_POINTS).round().astype(int))
    coverage = curve.coverage[keep].tolist()
    upper = [*zip(coverage, curve.high[keep].tolist(), strict=True)]
    lower = [*zip(coverage, curve.low[keep].tolist(), strict=True)]
    bound = [(c, alpha / c) for c in np.linspace(alpha / top, 1, 200).tolist()]
    inside = [
        _element("polygon", class_="band", points=_points(x, y, [*upper, *reversed(lower)])),
        _line("curve", x, y, zip(coverage, curve.risk[keep].tolist(), strict=True)),
        _line("ideal", x, y, bound),
    ]
    size = f"{evaluation.n - evaluation.audits_used} items not audited"
    band = f"band: {curve.level:.0%} at each point"
    return _frame(
        title="Risk and coverage",
        subtitle=f"{size}; {band}; dashed: {alpha * 100:.3g}% of all items wrong",
        axes=(x, y),
        parts=[
            _element("g", "".join(inside), clip_path="url(#area)"),
            *_pin(x, evaluation.oracle.share, "oracle", row=0),
            *_pin(x, evaluation.certified_share, "certified", row=1),
        ],
    )


def _frame(*, title: str, subtitle: str, axes: tuple[Axis, Axis], parts: Sequence[str]) -> str:
    """Axes, grid and words around the parts that fill the plotting area."""
    x, y = axes
    area = _element("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP)
    around = [
        _element("title", escape(f"{title}. {subtitle}")),
        _element("style", STYLE),
        _element("clipPath", area, id="area"),
        _element("rect", class_="ground", width=WIDTH, height=HEIGHT),
        _text(title, "title", x=LEFT, y=30),
        _text(subtitle, "mute", x=LEFT, y=52),
    ]
    for tick, words in x.ticks:
        at = x.place(tick)
        around.append(_element("path", class_="grid", d=f"M{at:.1f},{TOP}V{BOTTOM}"))
        around.append(_text(words, "mute", x=at, y=BOTTOM + 20, text_anchor="middle"))
    for tick, words in y.ticks:
        at = y.place(tick)
        around.append(_element("path", class_="grid", d=f"M{LEFT},{at:.1f}H{RIGHT}"))
        around.append(_text(words, "mute", x=LEFT - 8, y=at + 4, text_anchor="end"))
    turned = f"translate(20,{(TOP + BOTTOM) / 2}) rotate(-90)"
    around += [
        _element("path", class_="axis", d=f"M{LEFT},{TOP}V{BOTTOM}H{RIGHT}"),
        _text(x.label, "", x=(LEFT + RIGHT) / 2, y=HEIGHT - 16, text_anchor="middle"),
        _text(y.label, "", transform=turned, text_anchor="middle"),
    ]
    return _element(
        "svg",
        "\n" + "\n".join([*around, *parts]) + "\n",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def _pin(x: Axis, share: Estimate, name: str, *, row: int) -> list[str]:
    """A line at a share, its name in a row of its own so that two near pins stay legible."""
    if share.value is None:
        return []
    at, head = x.place(share.value), TOP + 18 + 20 * row
    anchor, gap = ("start", 6) if share.value < 0.7 else ("end", -6)
    return [
        _element("path", class_="pin", d=f"M{at:.1f},{BOTTOM}V{head - 12}"),
        _text(f"{name} {share.value:.1%}", "name halo", x=at + gap, y=head, text_anchor=anchor),
    ]


def _axis(label: str, low: float, high: float, start: float, end: float) -> Axis:
    """A linear axis with four to nine round values, in per cent."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    digits = next((d for d in range(6) if math.isclose(step, round(step, d + 2))), 6)
    return Axis(
        label,
        lambda value: start + (value - low) / (high - low) * (end - start),
        [(number * step, f"{number * step:.{digits}%}") for number in numbers],
    )


def _odds(value: float) -> float:
    """Log-odds, of a share kept a hair inside (0, 1)."""
    return float(special.logit(min(max(value, 1e-12), 1 - 1e-12)))


def _odds_axis(label: str, low: float, high: float) -> Axis:
    """A horizontal axis by log-odds, with the values 50%, 90%, 99% and on that fit."""
    first, last = _odds(low) - 0.5, _odds(high) + 0.5
    few = [(0.5, "50%"), (0.9, "90%"), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%")]
    more = [(1 - 10.0**-k, f"1 - 1e-{k}") for k in range(5, 13)]
    fitting = [(v, words) for v, words in [*few, *more] if first <= _odds(v) <= last]
    every = math.ceil(len(fitting) / MOST_ODDS)
    return Axis(
        label,
        lambda value: LEFT + (_odds(value) - first) / (last - first) * (RIGHT - LEFT),
        fitting[::every],
    )


def _points(x: Axis, y: Axis, pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x.place(a):.1f},{y.place(b):.1f}" for a, b in pairs)


def _line(class_: str, x: Axis, y: Axis, pairs: Iterable[tuple[float, float]]) -> str:
    return _element("polyline", class_=class_, points=_points(x, y, pairs))


def _text(words: str, class_: str, **attributes: str | float) -> str:
    return _element("text", escape(words), class_=class_, **attributes)


def _element(name: str, content: str = "", **attributes: str | float) -> str:
    """An XML element; `class_` and `text_anchor` stand for class and text-anchor."""
    told = "".join(
        f" {key.strip('_').replace('_', '-')}"
        f"={quoteattr(value if isinstance(value, str) else f'{value:.6g}')}"
        for key, value in attributes.items()
        if value != ""
    )
    return f"<{name}{told}>{content}</{name}>" if content else f"<{name}{told}/>"
