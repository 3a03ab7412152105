"""Routing: what becomes of a label, as a value; the shell performs it.

A policy is versioned; an item keeps the policy that routed it. The guarantee of
docs/guarantee.md will be one more policy here: its certificates decide on the same score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Route(StrEnum):
    """ACCEPT: the model's label leaves the service. REVIEW: a person decides."""

    ACCEPT = "accept"
    REVIEW = "review"


class RouteReason(StrEnum):
    """Why an item took its route."""

    ABOVE_THRESHOLD = "above_threshold"
    BELOW_THRESHOLD = "below_threshold"
    REVIEW_ALL = "review_all"
    ACCEPT_ALL = "accept_all"
    UNKNOWN_CONFIDENCE = "unknown_confidence"


@dataclass(frozen=True, slots=True)
class FixedThreshold:
    """Accept at or above a confidence in [0, 1]. Promises nothing about accuracy.

    Raises:
        ValueError: the threshold is not a number in [0, 1].
    """

    threshold: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and 0.0 <= self.threshold <= 1.0):
            raise ValueError("threshold must be a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class ReviewAll:
    """People decide everything; the model only proposes."""


@dataclass(frozen=True, slots=True)
class AcceptAll:
    """The model decides whatever it gave a known confidence for."""


Policy = FixedThreshold | ReviewAll | AcceptAll


@dataclass(frozen=True, slots=True)
class Decision:
    """A route with its reason."""

    route: Route
    reason: RouteReason


def decide_route(policy: Policy, *, confidence: float | None) -> Decision:
    """The route of a label with this confidence (None: unknown).

    Unknown confidence goes to people under every policy: what is not known can't be trusted, and
    a server that stops sending log probabilities must not become one that decides everything.
    """
    if confidence is None:
        return Decision(Route.REVIEW, RouteReason.UNKNOWN_CONFIDENCE)
    match policy:
        case ReviewAll():
            return Decision(Route.REVIEW, RouteReason.REVIEW_ALL)
        case AcceptAll():
            return Decision(Route.ACCEPT, RouteReason.ACCEPT_ALL)
        case FixedThreshold(threshold):
            if confidence >= threshold:
                return Decision(Route.ACCEPT, RouteReason.ABOVE_THRESHOLD)
            return Decision(Route.REVIEW, RouteReason.BELOW_THRESHOLD)


def policy_to_json(policy: Policy) -> dict[str, object]:
    """The stored and wire form: `{"kind": …}` with the policy's own parameters."""
    match policy:
        case FixedThreshold(threshold):
            return {"kind": "fixed_threshold", "threshold": threshold}
        case ReviewAll():
            return {"kind": "review_all"}
        case AcceptAll():
            return {"kind": "accept_all"}


def policy_from_json(document: dict[str, object]) -> Policy:
    """The inverse of `policy_to_json`.

    Raises:
        ValueError: an unknown kind or a parameter out of range.
    """
    match document:
        case {"kind": "fixed_threshold", "threshold": float() | int() as threshold}:
            return FixedThreshold(float(threshold))
        case {"kind": "review_all"}:
            return ReviewAll()
        case {"kind": "accept_all"}:
            return AcceptAll()
        case _:
            raise ValueError(f"no such policy: {document.get('kind')!r}")
