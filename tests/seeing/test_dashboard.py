"""The dashboard, the alerts and the page that explains them know only metrics that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.seeing.support import Watched
from tests.support.processes import ROOT

pytestmark = pytest.mark.timeout(600)

DASHBOARD = ROOT / "deploy" / "grafana" / "secondlook.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
PAGE = ROOT / "docs" / "observability.md"
_NAME = re.compile(r"secondlook_\w+")
_SELECTOR = re.compile(r"(secondlook_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
# what Prometheus adds itself
_OF_SCRAPES = {"instance", "job"}

Metrics = dict[str, dict[str, set[str]]]


def dashboard_queries() -> dict[str, str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        f"{panel['title']}, {target['refId']}": target["expr"]
        for panel in panels
        for target in panel.get("targets", ())
    }


def alert_queries() -> dict[str, str]:
    document: Any = YAML(typ="safe").load(ALERTS)
    return {rule["alert"]: rule["expr"] for rule in document["groups"][0]["rules"]}


QUERIES = dashboard_queries() | alert_queries()


def unknown(query: str, metrics: Metrics) -> list[str]:
    """What a query uses that no process tells: a metric, a label, or a label's value."""
    names = set(_NAME.findall(query))
    found = sorted(names - metrics.keys())
    known: dict[str, set[str]] = {}
    for name in names & metrics.keys():
        for label, values in metrics[name].items():
            known.setdefault(label, set()).update(values)
    for group in _GROUPING.findall(query):
        used = {label.strip() for label in group.split(",")}
        found += sorted(used - known.keys() - _OF_SCRAPES)
    for name, matchers in _SELECTOR.findall(query):
        for label, operator, value in _MATCHER.findall(matchers):
            values = metrics.get(name, {}).get(label, set())
            pattern = value if "~" in operator else re.escape(value)
            if not any(re.fullmatch(pattern, each) for each in values):
                found.append(f'{name}{{{label}{operator}"{value}"}}')
    return found


@pytest.fixture
async def metrics(watched: Watched) -> Metrics:
    """Every metric of every process: its labels and their values."""
    found: Metrics = {}
    for process in watched.ports:
        for name, series in (await watched.metrics(process)).items():
            labels = found.setdefault(name, {})
            for key in series:
                for label, value in key:
                    labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.usefixtures("memory")
class TestQueries:
    @pytest.mark.parametrize("name", QUERIES)
    def test_use_only_what_there_is(self, name: str, metrics: Metrics) -> None:
        assert _NAME.search(QUERIES[name])
        assert unknown(QUERIES[name], metrics) == []

    @pytest.mark.parametrize(
        ("query", "missing"),
        [
            ("max(secondlook_nothing)", ["secondlook_nothing"]),
            ("max by (project) (secondlook_items)", ["project"]),
            (
                'secondlook_items{state="nowhere"}',
                ['secondlook_items{state="nowhere"}'],
            ),
            (
                'secondlook_items{sate="pending"}',
                ['secondlook_items{sate="pending"}'],
            ),
        ],
    )
    def test_that_use_another_would_be_found(
        self, query: str, missing: list[str], metrics: Metrics
    ) -> None:
        assert unknown(query, metrics) == missing

    async def test_the_page_names_every_metric_and_no_other(self, watched: Watched) -> None:
        told = "".join([await watched.exposition(process) for process in watched.ports])
        families = set(re.findall(r"^# TYPE (secondlook_\w+)", told, re.MULTILINE))
        table = [
            line for line in PAGE.read_text().splitlines() if line.startswith("| `secondlook_")
        ]
        assert {line.split("`")[1] for line in table} == families

    def test_the_page_explains_every_alert(self) -> None:
        page = PAGE.read_text()
        assert [name for name in alert_queries() if f"`{name}`" not in page] == []
