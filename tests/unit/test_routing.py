from __future__ import annotations

import math

import pytest

from app.domain.routing import (
    AcceptAll,
    Decision,
    FixedThreshold,
    Policy,
    ReviewAll,
    Route,
    RouteReason,
    decide_route,
    policy_from_json,
    policy_to_json,
)

POLICIES: tuple[Policy, ...] = (FixedThreshold(0.9), FixedThreshold(0.0), ReviewAll(), AcceptAll())
BELOW_ONE = math.nextafter(1.0, 0.0)


class TestDecideRoute:
    @pytest.mark.parametrize(
        ("policy", "confidence", "route", "reason"),
        [
            (FixedThreshold(0.9), 0.95, Route.ACCEPT, RouteReason.ABOVE_THRESHOLD),
            # at the threshold is enough
            (FixedThreshold(0.9), 0.9, Route.ACCEPT, RouteReason.ABOVE_THRESHOLD),
            (FixedThreshold(0.9), 0.89, Route.REVIEW, RouteReason.BELOW_THRESHOLD),
            (FixedThreshold(0.0), 0.0, Route.ACCEPT, RouteReason.ABOVE_THRESHOLD),
            # the last bit counts: useful thresholds stand at 1 - 1e-7
            (FixedThreshold(1.0), BELOW_ONE, Route.REVIEW, RouteReason.BELOW_THRESHOLD),
            (FixedThreshold(BELOW_ONE), BELOW_ONE, Route.ACCEPT, RouteReason.ABOVE_THRESHOLD),
            (ReviewAll(), 1.0, Route.REVIEW, RouteReason.REVIEW_ALL),
            (AcceptAll(), 0.0, Route.ACCEPT, RouteReason.ACCEPT_ALL),
        ],
    )
    def test_known_confidence(
        self, policy: Policy, confidence: float, route: Route, reason: RouteReason
    ) -> None:
        assert decide_route(policy, confidence=confidence) == Decision(route, reason)

    @pytest.mark.parametrize("policy", POLICIES)
    def test_unknown_confidence_goes_to_people_under_every_policy(self, policy: Policy) -> None:
        decision = decide_route(policy, confidence=None)
        assert decision == Decision(Route.REVIEW, RouteReason.UNKNOWN_CONFIDENCE)


class TestThePolicyDocument:
    @pytest.mark.parametrize("policy", POLICIES)
    def test_comes_back_as_it_was(self, policy: Policy) -> None:
        assert policy_from_json(policy_to_json(policy)) == policy

    def test_a_threshold_may_be_a_whole_number(self) -> None:
        # JSON does not tell 1 from 1.0
        policy = policy_from_json({"kind": "fixed_threshold", "threshold": 1})
        assert policy == FixedThreshold(1.0)

    @pytest.mark.parametrize(
        "document",
        [
            {"kind": "accept_most"},
            {},
            {"kind": "fixed_threshold"},
            {"kind": "fixed_threshold", "threshold": "0.9"},
            {"kind": "fixed_threshold", "threshold": 1.01},
            {"kind": "fixed_threshold", "threshold": -0.01},
            {"kind": "fixed_threshold", "threshold": math.nan},
        ],
    )
    def test_a_wrong_one_is_refused(self, document: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"policy|threshold"):
            policy_from_json(document)
