"""Behind `secondlook evaluate`: reading the log, and its figures as JSON, as a table, as files."""

import errno
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from rich.table import Table

from app.commands.charts import percent, reliability_diagram, risk_coverage_chart
from app.domain.evaluation import Evaluation
from app.domain.intervals import Estimate

FIELDS = ("confidence", "prediction", "label")


class BadLineError(ValueError):
    """A line of the log that cannot be used; the message names the line and the field."""


def read_log(path: Path) -> tuple[list[float], list[bool]]:
    """Confidences (NaN where unknown) and whether the prediction is right, line by line.

    Blank lines are skipped. A prediction of null counts as wrong and as of unknown confidence.

    Raises:
        BadLineError: A line that cannot be used, or no line at all.
        OSError: The file cannot be read.
    """
    confidences, correct = [], []
    for number, row in _rows(path):
        for field in FIELDS:
            if field not in row:
                raise BadLineError(f"{path} line {number}: {field}: missing")
        where = f"{path} line {number}"
        confidence, prediction, label = (row[field] for field in FIELDS)
        known = type(confidence) in {int, float} and 0 <= confidence <= 1
        if not known and confidence is not None:
            raise BadLineError(f"{where}: confidence: must be a number from 0 to 1, or null")
        if label is None:
            raise BadLineError(f"{where}: label: must not be null, it is the truth")
        if prediction is not None and _kind(prediction) is not _kind(label):
            # "1" and 1 would never agree, and every line would count as wrong without a word
            raise BadLineError(f"{where}: prediction: is of another JSON type than the label")
        confidences.append(float(confidence) if known and prediction is not None else math.nan)
        correct.append(prediction is not None and prediction == label)
    if not correct:
        raise BadLineError(f"{path}: no lines")
    return confidences, correct


def _kind(value: Any) -> type:
    """JSON knows one kind of number."""
    return float if type(value) is int else type(value)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                row = json.loads(text, parse_constant=_no_constant)
            except (ValueError, RecursionError) as error:
                reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
                raise BadLineError(f"{path} line {number}: {reason}") from error
            if not isinstance(row, dict):
                raise BadLineError(f"{path} line {number}: not a JSON object")
            yield number, row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def charts(result: Evaluation) -> dict[str, str]:
    """The charts by file name, as SVG text."""
    return {
        "reliability.svg": reliability_diagram(result.calibration),
        "risk_coverage.svg": risk_coverage_chart(result),
    }


def write_all(folder: Path, files: dict[str, str]) -> None:
    """Write every file or, where one cannot be written, leave none half-written behind.

    Raises:
        OSError: The folder or a file in it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {folder / name: folder / f".{name}.part" for name in files}
    try:
        for (path, part), text in zip(parts.items(), files.values(), strict=True):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
            part.write_text(text, encoding="utf-8")
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def estimates(result: Evaluation) -> dict[str, Estimate]:
    """Every figure by its JSON key."""
    return {
        "accuracy": result.accuracy,
        "auroc": result.auroc,
        "ece": result.calibration.ece,
        "brier": result.calibration.brier,
        "aurc": result.area.aurc,
        "excess_aurc": result.area.excess,
        "oracle_share": result.oracle.share,
        "oracle_share_accepted_only": result.oracle_accepted_only.share,
        "certified_share": result.certified_share,
        "delivered_error": result.delivered_error,
    }


def estimate_dict(estimate: Estimate) -> dict[str, Any]:
    """An interval as JSON, with whom it speaks for."""
    return {
        "low": estimate.low,
        "high": estimate.high,
        "level": estimate.level,
        "method": estimate.method.value,
        "n": estimate.n,
        "population": {"what": estimate.population.what, "of": estimate.population.of},
    }


def as_dict(result: Evaluation) -> dict[str, Any]:
    """The figures as JSON: plain numbers, and under `intervals` what stands around each."""
    around = estimates(result)
    return {
        "n": result.n,
        "unknown_confidence": result.unknown,
        "target": result.target,
        "delta": result.delta,
        **{key: estimate.value for key, estimate in around.items()},
        "threshold": result.threshold,
        "audits_used": result.audits_used,
        "missing": None if result.missing is None else str(result.missing),
        "intervals": {key: estimate_dict(estimate) for key, estimate in around.items()},
    }


ROWS = {
    "accuracy": ("accuracy", True),
    "auroc": ("AUROC", False),
    "aurc": ("AURC", False),
    "excess_aurc": ("excess AURC", False),
    "ece": ("calibration error", True),
    "brier": ("Brier score", False),
    "oracle_share": ("oracle's share", True),
    "oracle_share_accepted_only": ("  if accepted only", True),
    "certified_share": ("certified share", True),
    "delivered_error": ("delivered error", True),
}


def figures(result: Evaluation) -> Table:
    """The table for the terminal."""
    table = Table(title=f"{result.n} items, target {result.target:.4g}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("of")
    for key, estimate in estimates(result).items():
        name, share = ROWS[key]

        def shown(value: float, *, share: bool = share) -> str:
            return f"{value:.2%}" if share else f"{value:.4f}"

        value = "none" if estimate.value is None else shown(estimate.value)
        interval = f"{shown(estimate.low)} to {shown(estimate.high)}"
        table.add_row(name, value, interval, estimate.population.what)
    return table


def verdict(result: Evaluation) -> str:
    """What the audits allow, in a sentence or two."""
    audits = f"{result.audits_used} audits"
    if result.threshold is not None:
        return (
            f"From {audits}: accept at confidence {result.threshold!r} or above. With probability "
            f"{1 - result.delta:.4g} at most {1 - result.target:.4g} of all items are then accepted"
            f" and wrong; measured on the rest: {percent(result.delivered_error, 2)}."
        )
    why = "no item has a confidence" if result.missing is None else str(result.missing)
    return f"From {audits}: nothing can be certified; {why}."
