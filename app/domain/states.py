"""The states of an item and the only arrows between them (drawn in docs/architecture.md)."""

from __future__ import annotations

from enum import StrEnum


class ItemState(StrEnum):
    """Where an item stands. Only ACCEPTED and COMPLETED have a final label."""

    PENDING = "pending"
    LABELING = "labeling"
    ACCEPTED = "accepted"
    IN_REVIEW = "in_review"
    COMPLETED = "completed"


class Transition(StrEnum):
    """What moves an item; each is one transaction with its event and its counters."""

    CLAIM = "claim"
    RETURN = "return"
    ACCEPT = "accept"
    SEND_TO_REVIEW = "send_to_review"
    COMPLETE = "complete"


ARROWS: dict[Transition, tuple[ItemState, ItemState]] = {
    Transition.CLAIM: (ItemState.PENDING, ItemState.LABELING),
    # the lease ran out, or a retry is due later
    Transition.RETURN: (ItemState.LABELING, ItemState.PENDING),
    Transition.ACCEPT: (ItemState.LABELING, ItemState.ACCEPTED),
    Transition.SEND_TO_REVIEW: (ItemState.LABELING, ItemState.IN_REVIEW),
    Transition.COMPLETE: (ItemState.IN_REVIEW, ItemState.COMPLETED),
}

FINAL = frozenset({ItemState.ACCEPTED, ItemState.COMPLETED})


STATE_PREFIX = "items."


def counter_name(state: ItemState) -> str:
    """The counter that holds how many items of a project are in a state."""
    return f"{STATE_PREFIX}{state.value}"


def state_deltas(transition: Transition, count: int) -> dict[str, int]:
    """What `count` items making one transition add to the state counters."""
    source, target = ARROWS[transition]
    return {counter_name(source): -count, counter_name(target): count}
