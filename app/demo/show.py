"""What the demo prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from app.domain.intervals import Population, wilson

_SHOWN = 3


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def least_certain(entries: Sequence[Mapping[str, Any]], truth: Mapping[str, str]) -> Table:
    """The head of the queue: each item with what the model thought of, and the truth."""
    table = Table(
        title=f"The {len(entries)} least certain items",
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        padding=(0, 1),
    )
    table.add_column(justify="right", no_wrap=True, min_width=7)
    table.add_column(overflow="ellipsis", no_wrap=True)
    for entry in entries:
        known = entry["confidence"]["value"]
        shown = "unknown" if known is None else f"{known:.3f}"
        right = truth[entry["external_id"]]
        alternatives = ", ".join(
            f"{each['label']} {each['probability']:.2f}" for each in entry["alternatives"][:_SHOWN]
        )
        table.add_row(shown, Text(entry["content"]["text"]))
        table.add_row("", Text(alternatives or "no alternatives", style="dim"))
        style = "green" if entry["label"] == right else "red"
        table.add_row("", Text(f"truth: {right}", style=style))
    return table


def by_confidence(report: Mapping[str, Any]) -> Table:
    """The agreement table by confidence bin."""
    n = report["accuracy"]["n"]
    table = _table(
        f"Agreement with people by confidence, {n} reviewed items",
        *("confidence", "items", "agreed", "share", "95% interval"),
    )
    for each in reversed(report["by_confidence"]):
        if not each["n"]:
            continue
        table.add_row(bin_name(each), str(each["n"]), str(each["agreed"]), *_share(each))
    whole = {"agreement": report["accuracy"]}
    agreed = sum(each["agreed"] for each in report["by_confidence"])
    table.add_section()
    table.add_row("all", str(n), str(agreed), *_share(whole))
    return table


def _share(each: Mapping[str, Any]) -> tuple[str, str]:
    estimate = each["agreement"]
    interval = f"{estimate['low']:.1%} to {estimate['high']:.1%}"
    return f"{estimate['value']:.1%}", interval


def bin_name(each: Mapping[str, Any]) -> str:
    """A bin in words a person reads: `0.95 to 0.99`."""
    if each["low"] is None:
        return "unknown"
    return f"{each['low']:g} to {each['high']:g}"


def thresholds(report: Mapping[str, Any]) -> Table:
    """What each threshold would have left to the model, from the same reviews."""
    bins = [each for each in report["by_confidence"] if each["low"] is not None]
    total = sum(each["n"] for each in report["by_confidence"])
    errors = sum(each["n"] - each["agreed"] for each in report["by_confidence"])
    table = _table(
        f"Had a threshold decided these {total} items",
        *("accept from", "accepted", "right", "95% interval", "reviewed", "errors found"),
    )
    population = Population("demo items at or above the threshold")
    for index in range(1, len(bins)):
        n = sum(each["n"] for each in bins[index:])
        right = sum(each["agreed"] for each in bins[index:])
        if not n or not errors:
            continue
        accuracy = wilson(right, n, population=population)
        table.add_row(
            f"{bins[index]['low']:g}",
            f"{n / total:.0%}",
            f"{right / n:.1%}",
            f"{accuracy.low:.1%} to {accuracy.high:.1%}",
            f"{1 - n / total:.0%}",
            f"{1 - (n - right) / errors:.0%}",
        )
    return table


def go_on(console: Console, *, base_url: str, key: str, project: str) -> None:
    """How to go on by hand."""
    console.print(f"\n[bold]Go on yourself[/bold]: {base_url}", highlight=False)
    # soft_wrap: these lines are there to be copied
    curl = 'curl -H "Authorization: Bearer $SECONDLOOK_KEY"'
    lines = [f"export SECONDLOOK_KEY={key}"]
    lines += [f"{curl} {base_url}/v1/projects/{project}/{name}" for name in ("stats", "agreement")]
    for line in lines:
        console.print("  " + escape(line), soft_wrap=True, highlight=False)
