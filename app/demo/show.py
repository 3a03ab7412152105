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
    """The head of the queue: item, confidence, what the model thought of, the truth."""
    table = _table("The ten least certain items")
    table.add_column("item")
    table.add_column("confidence", justify="right")
    table.add_column("the model's alternatives", no_wrap=True)
    table.add_column("truth")
    for entry in entries:
        confidence = entry["confidence"]
        known = confidence["value"]
        shown = f"unknown: {confidence['reason']}" if known is None else f"{known:.3f}"
        alternatives = "\n".join(
            f"{each['label']} {each['probability']:.3f}" for each in entry["alternatives"][:_SHOWN]
        )
        right = truth[entry["external_id"]]
        table.add_row(
            Text(entry["content"]["text"]),
            shown,
            Text(alternatives or "none"),
            Text(right, style="green" if entry["label"] == right else "red"),
        )
        table.add_section()
    return table


def by_confidence(report: Mapping[str, Any]) -> Table:
    """The agreement table by confidence bin."""
    n = report["accuracy"]["n"]
    table = _table(
        f"Agreement with people by confidence: {n} reviewed items, 95% intervals",
        *("confidence", "items", "agreed", "share", "interval"),
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
        "accept from",
        "model decides",
        "of these right",
        "people look at",
        "and find of all errors",
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
            f"{right / n:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})",
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
