from __future__ import annotations

import pytest

from app.domain.agreement import BIN_COUNT, confidence_bin
from app.domain.kinds.single_choice import SingleChoiceSchema
from app.domain.labels import LabelSet
from app.review.verdict import AgreementCell, verdict_counts


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


LABELS = ("a", "b", "c")
SCHEMA = SingleChoiceSchema(LabelSet.of(LABELS))


class TestVerdictCounts:
    @pytest.mark.parametrize(
        ("confidence", "predicted"),
        [(0.93, 1), (0.0, 0), (1.0, 2), (None, 1), (None, None)],
        ids=["known", "none at all", "certain", "unknown", "no label"],
    )
    def test_a_choice_is_counted_in_one_cell_and_completes_the_item(
        self, confidence: float | None, predicted: int | None
    ) -> None:
        counts = verdict_counts(
            SCHEMA,
            version=1,
            confidence=confidence,
            predicted=None if predicted is None else LABELS[predicted],
            actual="c",
        )
        cell = AgreementCell(1, confidence_bin(confidence), predicted, 2)
        assert counts.deltas == {cell.name(): 1, "items.in_review": -1, "items.completed": 1}
        assert counts.tally is None
