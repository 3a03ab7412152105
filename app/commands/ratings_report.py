"""Behind `secondlook agreement`: reading the ratings, and their figures as JSON and as a table."""

import csv
import io
from pathlib import Path
from typing import Any

from rich.table import Table

from app.commands.log_report import estimate_dict
from app.domain.coefficients import Metric
from app.domain.intervals import Estimate
from app.domain.raters import RaterAgreement, Ratings

COLUMNS = ("item", "rater", "rating")
MOST_CELLS = 20_000_000  # items times categories: 160 MB a table


class BadRowError(ValueError):
    """A row of the ratings that cannot be used; the message names the line and the column."""


def read_ratings(path: Path) -> list[tuple[str, str, str]]:
    """The (item, rater, rating) triples, further columns ignored; empty ratings are left out.

    Raises:
        BadRowError: The header lacks a column, a row cannot be used, or there is no rating.
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadRowError(f"{path} line {line}: not UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = reader.fieldnames or []
        for column in COLUMNS:
            if header.count(column) != 1:
                found = ", ".join(header) or "none"
                raise BadRowError(
                    f"{path} line 1: {column}: the header must name this column once; needed: "
                    f"{', '.join(COLUMNS)}; found: {found}"
                )
        rows = [_triple(row, f"{path} line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise BadRowError(f"{path} after line {reader.line_num}: not CSV, {error}") from error
    triples = [triple for triple in rows if triple is not None]
    if not triples:
        raise BadRowError(f"{path}: no ratings")
    cells = len({item for item, _, _ in triples}) * len({rating for _, _, rating in triples})
    if cells > MOST_CELLS:
        raise BadRowError(f"{path}: rating: too many different values for so many items")
    return triples


def _triple(row: dict[Any, Any], where: str) -> tuple[str, str, str] | None:
    if None in row:
        raise BadRowError(f"{where}: more fields than the header has")
    for column in COLUMNS:
        if row[column] is None:
            raise BadRowError(f"{where}: {column}: missing, the row is too short")
        if "\0" in row[column]:
            raise BadRowError(f"{where}: {column}: holds a NUL character")
    item, rater, rating = (row[column].strip() for column in COLUMNS)
    for column, text in (("item", item), ("rater", rater)):
        if not text:
            raise BadRowError(f"{where}: {column}: must not be empty")
    return (item, rater, rating) if rating else None


def _estimates(result: RaterAgreement) -> dict[str, Estimate | None]:
    alpha = {metric: result.alpha.get(metric) for metric in Metric}
    return {
        "percent agreement": result.percent,
        "Fleiss' kappa": result.fleiss_kappa,
        "Gwet's AC1": result.gwet_ac1,
        **{f"Krippendorff's alpha, {metric}": estimate for metric, estimate in alpha.items()},
        **({"Cohen's kappa": result.cohen_kappa} if result.raters == 2 else {}),
    }


def as_dict(ratings: Ratings, result: RaterAgreement) -> dict[str, Any]:
    """The figures as JSON: plain numbers, and under `intervals` what stands around each.

    Interval alpha is null where the categories are no numbers, any figure where the ratings cannot
    give it. `cohen_kappa` is there for two raters, null if one of them rated an item twice.
    """
    figures: dict[str, Estimate | None] = {
        "percent_agreement": result.percent,
        "fleiss_kappa": result.fleiss_kappa,
        "gwet_ac1": result.gwet_ac1,
    }
    if result.raters == 2:
        figures["cohen_kappa"] = result.cohen_kappa
    alpha = {metric.value: result.alpha.get(metric) for metric in Metric}
    return {
        "items": result.items,
        "items_rated_once": result.lone_items,
        "raters": result.raters,
        "ratings": len(ratings.items),
        "categories": list(ratings.values),
        **{key: _value(estimate) for key, estimate in figures.items()},
        "krippendorff_alpha": {key: _value(estimate) for key, estimate in alpha.items()},
        "intervals": {
            **{key: _around(estimate) for key, estimate in figures.items()},
            "krippendorff_alpha": {key: _around(estimate) for key, estimate in alpha.items()},
        },
    }


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _around(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate_dict(estimate)


def figures(ratings: Ratings, result: RaterAgreement) -> Table:
    """The table for the terminal."""
    size = f"{len(ratings.items)} ratings of {ratings.n_items} items by {result.raters} people"
    table = Table(
        title=f"{size}; agreement on the {result.items} items rated by two or more",
        title_justify="left",
    )
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    for name, estimate in _estimates(result).items():
        if estimate is None:
            table.add_row(name, "none", "")
            continue
        table.add_row(
            name,
            "none" if estimate.value is None else f"{estimate.value:.4f}",
            f"{estimate.low:.4f} to {estimate.high:.4f}",
        )
    return table
