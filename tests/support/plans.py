"""Plans of statements, as the server says it would run them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg


def plan_nodes(
    connection: psycopg.Connection[Any], statement: str, parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every node of a statement's plan."""
    found = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), parameters).fetchone()
    assert found is not None
    plan = found[0] if isinstance(found[0], list) else json.loads(found[0])
    return list(_nodes(plan[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
