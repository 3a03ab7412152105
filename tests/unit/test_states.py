from __future__ import annotations

import pytest

from app.domain.states import ARROWS, FINAL, ItemState, Transition, counter_name, state_deltas


class TestTheArrows:
    def test_every_state_can_be_reached_from_where_an_item_begins(self) -> None:
        reached = {ItemState.PENDING}
        while more := {
            target
            for source, target in ARROWS.values()
            if source in reached and target not in reached
        }:
            reached |= more
        assert reached == set(ItemState)

    def test_only_what_has_left_the_service_has_no_way_on(self) -> None:
        assert set(ItemState) - {source for source, _ in ARROWS.values()} == FINAL

    def test_every_transition_has_one_arrow(self) -> None:
        assert set(ARROWS) == set(Transition)
        assert len(set(ARROWS.values())) == len(ARROWS)


class TestStateDeltas:
    @pytest.mark.parametrize("transition", list(Transition))
    def test_move_items_and_neither_make_nor_lose_any(self, transition: Transition) -> None:
        source, target = ARROWS[transition]
        deltas = state_deltas(transition, 7)
        assert deltas == {counter_name(source): -7, counter_name(target): 7}
        assert sum(deltas.values()) == 0
