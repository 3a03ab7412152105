"""The project of a run: found again by its name, or made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.client import ServiceClient
from app.commands.label_options import DEFAULT_THRESHOLD, UsageError, Wanted

_LISTED = 1000


async def find_or_make(service: ServiceClient, wanted: Wanted) -> dict[str, Any]:
    """The project as the API shows it.

    Raises:
        UsageError: there is one of this name that asks something else, or none and no labels.
        ServiceError: the service refused.
    """
    found = await _find(service, wanted.name)
    if found is None:
        await service.post("/v1/projects", _body(wanted))
        # looked for once more: of two that are made at the same time, both runs take the older
        found = await _find(service, wanted.name)
        assert found is not None
    _require_same(found, wanted)
    return found


async def _find(service: ServiceClient, name: str) -> dict[str, Any] | None:
    """The oldest project of this name or id."""
    async for page in service.pages("/v1/projects", limit=_LISTED):
        for project in page:
            if name in {project["name"], project["id"]}:
                return project
    return None


def _body(wanted: Wanted) -> dict[str, Any]:
    if wanted.labels is None:
        raise UsageError(
            f"there is no project {wanted.name} yet; name its labels with --labels a,b,c"
        )
    labeler = {
        "source": wanted.source,
        "model": wanted.model,
        "base_url": wanted.base_url,
        "instructions": wanted.instructions,
    }
    threshold = DEFAULT_THRESHOLD if wanted.threshold is None else wanted.threshold
    return {
        "name": wanted.name,
        "label_schema": {"kind": "single_choice", "labels": wanted.labels.to_dicts()},
        "labeler": {name: value for name, value in labeler.items() if value is not None},
        "policy": {"kind": "fixed_threshold", "threshold": threshold},
    }


def _require_same(project: Mapping[str, Any], wanted: Wanted) -> None:
    """That what was paid for is what is asked for now."""
    labeler = project["labeler"]
    other = "; another --project NAME begins anew"
    if wanted.labels is not None and project["label_schema"]["labels"] != wanted.labels.to_dicts():
        there = ", ".join(label["name"] for label in project["label_schema"]["labels"])
        raise UsageError(f"the project {project['name']} has other labels ({there}){other}")
    for name in ("model", "instructions", "base_url", "source"):
        value = getattr(wanted, name)
        # a base URL that is the service's own is stored as none
        if value and labeler[name] is not None and labeler[name] != value:
            raise UsageError(f"the project {project['name']} has another {name}{other}")
    policy = project["policy"]["policy"]
    if wanted.threshold is not None and policy.get("threshold") != wanted.threshold:
        raise UsageError(
            f"these rows are routed by {policy_words(policy)} already, and keep their routes. "
            "Leave --threshold out and draw your own line in the column confidence, which costs "
            f"nothing{other}, and every row is paid again"
        )


def policy_words(policy: Mapping[str, Any]) -> str:
    """A policy in words."""
    match policy:
        case {"kind": "fixed_threshold", "threshold": threshold}:
            return f"the threshold {threshold:g}"
        case _:
            return f"the policy {policy.get('kind')}"
