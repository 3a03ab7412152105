from __future__ import annotations

import pytest

from app.domain.agreement import BIN_COUNT, confidence_bin
from app.review.verdict import AgreementCell, verdict_deltas


class TestAgreementCell:
    @pytest.mark.parametrize("predicted", [None, 0, 41])
    def test_is_read_back_from_its_name(self, predicted: int | None) -> None:
        cell = AgreementCell(3, BIN_COUNT - 1, predicted, 7)
        assert AgreementCell.parse(cell.name()) == cell

    def test_different_cells_have_different_names(self) -> None:
        cells = [
            AgreementCell(version, bin_index, predicted, actual)
            for version in (1, 11)
            for bin_index in (0, 1)
            for predicted in (None, 0, 1, 11)
            for actual in (0, 1, 11)
        ]
        assert len({cell.name() for cell in cells}) == len(cells)


class TestVerdictDeltas:
    @pytest.mark.parametrize(
        ("confidence", "predicted"),
        [(0.93, 1), (0.0, 0), (1.0, 2), (None, 1), (None, None)],
        ids=["known", "none at all", "certain", "unknown", "no label"],
    )
    def test_count_the_verdict_in_one_cell_and_complete_the_item(
        self, confidence: float | None, predicted: int | None
    ) -> None:
        deltas = verdict_deltas(
            schema_version=1, confidence=confidence, predicted=predicted, actual=2
        )
        cell = AgreementCell(1, confidence_bin(confidence), predicted, 2)
        assert deltas == {cell.name(): 1, "items.in_review": -1, "items.completed": 1}
