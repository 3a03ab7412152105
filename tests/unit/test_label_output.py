"""Answers joined with rows, and files written whole or not at all."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from app.commands.label_answers import Answer, Answers, answer_of
from app.commands.label_output import ChangedError, Tally, faults_of, write
from app.commands.label_rows import Rows, added_names, open_table

NAMES = added_names(frozenset(), prefix=None)


def item(key: str, text: str, **more: Any) -> dict[str, Any]:
    """An item of the API's listing, accepted unless told otherwise."""
    return {
        "external_id": key,
        "content": {"text": text},
        "state": "accepted",
        "label": "spam",
        "final_label": "spam",
        "confidence": {"value": 0.97, "source": "logprobs", "reason": None},
        "route": "accept",
        "route_reason": "above_threshold",
        "last_error": None,
        **more,
    }


def rows_of(folder: Path, content: str, *, id_column: str | None = None) -> Rows:
    path = folder / "items.csv"
    path.write_text(content)
    return Rows(open_table(path, name=path.name), text_column="text", id_column=id_column)


def written(rows: Rows, items: list[dict[str, Any]], out: Path) -> Tally:
    with Answers() as answers:
        answers.add(items)
        return write(rows.table, rows, answers, names=NAMES, out=out)


UNKNOWN = {"value": None, "source": "logprobs", "reason": "no_logprobs"}


class TestAnswer:
    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            ({}, ("spam", "spam", 0.97, "accept", "above_threshold", "model", None)),
            # it waits: what the model proposes, decided by nobody
            (
                {"state": "in_review", "final_label": None, "route": "review"},
                ("spam", "spam", 0.97, "review", "above_threshold", None, None),
            ),
            # a person said otherwise: the confidence is still that of the model's label
            (
                {"state": "completed", "final_label": "ham", "route": "review"},
                ("ham", "spam", 0.97, "review", "above_threshold", "person", None),
            ),
            (
                {
                    "state": "in_review",
                    "final_label": None,
                    "route": "review",
                    "confidence": UNKNOWN,
                    "last_error": "There are no log probabilities.",
                },
                (
                    *("spam", "spam", None, "review", "no_logprobs", None),
                    "There are no log probabilities.",
                ),
            ),
            # a fault that another try mended is none
            (
                {"last_error": "the model server answered 500"},
                ("spam", "spam", 0.97, "accept", "above_threshold", "model", None),
            ),
        ],
    )
    def test_of_an_item(self, more: dict[str, Any], expected: tuple[Any, ...]) -> None:
        assert tuple(answer_of(item("k", "a", **more)).columns(NAMES).values()) == expected


class TestJoin:
    def test_any_order_of_pages_gives_the_order_of_rows(self, tmp_path: Path) -> None:
        texts = [f"text {number % 37}" for number in range(100)]
        rows = rows_of(tmp_path, "text\n" + "\n".join(texts) + "\n")
        items = {row.key: item(row.key, text) for row, text in zip(rows, texts, strict=True)}
        pages = list(items.values())
        random.Random(1).shuffle(pages)
        for each in pages:
            each["label"] = each["final_label"] = each["content"]["text"].upper()
        tally = written(rows, pages, tmp_path / "out.csv")
        lines = (tmp_path / "out.csv").read_text().splitlines()
        assert [line.split(",")[:2] for line in lines[1:]] == [[t, t.upper()] for t in texts]
        assert (tally.rows, tally.accepted) == (100, 100)

    def test_an_id_of_another_text_is_a_faulty_row(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, "id,text\n1,a\n1,b\n", id_column="id")
        tally = written(rows, [item("1", "a")], tmp_path / "out.csv")
        assert (tally.accepted, tally.faulty) == (1, 1)
        assert "id 1 stands for another text" in tally.first_faults[0]

    def test_items_of_others_in_the_same_project_do_not_matter(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, "id,text\n1,a\n", id_column="id")
        others = [item("", "x", external_id=None), item("2", "b")]
        assert written(rows, [*others, item("1", "a")], tmp_path / "out.csv").accepted == 1

    def test_a_confidence_keeps_every_digit(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, "id,text\n1,a\n", id_column="id")
        confidence = {"value": 1 - 1.1e-7, "source": "logprobs", "reason": None}
        written(rows, [item("1", "a", confidence=confidence)], tmp_path / "out.csv")
        (_, line) = (tmp_path / "out.csv").read_text().splitlines()
        assert float(line.split(",")[4]) == 1 - 1.1e-7

    def test_what_the_service_refused_says_why(self, tmp_path: Path) -> None:
        (row,) = rows_of(tmp_path, "text\na\n")
        with Answers() as answers:
            answers.refuse(row.key, "too late")
            assert answers.of(row) == Answer(error="too late")


class TestFiles:
    def test_faulty_rows_stand_in_both_files(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, 'id,text\n1,a\n2,\n3,x,"y\nz"\n', id_column="id")
        out = tmp_path / "out.csv"
        tally = written(rows, [item("1", "a")], out)
        assert [line.split(",")[0] for line in out.read_text().splitlines()] == [
            "id",
            "1",
            "2",
            "3",
        ]
        faults = [json.loads(line) for line in faults_of(out).read_text().splitlines()]
        assert [(each["row"], each["line"], each["input"]) for each in faults] == [
            (2, 3, "2,"),
            (3, 4, '3,x,"y\nz"'),
        ]
        assert faults[0]["error"] == "text: is empty"
        assert (tally.rows, tally.faulty) == (3, 2)

    def test_the_file_of_faults_goes_when_there_are_none(self, tmp_path: Path) -> None:
        out = tmp_path / "out.csv"
        faults_of(out).write_text("of an earlier run")
        written(rows_of(tmp_path, "id,text\n1,a\n", id_column="id"), [item("1", "a")], out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["items.csv", "out.csv"]

    def test_an_unknown_row_leaves_the_old_output_as_it_was(self, tmp_path: Path) -> None:
        out = tmp_path / "out.csv"
        out.write_text("old")
        rows = rows_of(tmp_path, "id,text\n1,a\n2,b\n", id_column="id")
        with pytest.raises(ChangedError):
            written(rows, [item("1", "a")], out)
        assert out.read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["items.csv", "out.csv"]

    def test_a_link_stays_one(self, tmp_path: Path) -> None:
        (tmp_path / "real.csv").write_text("old")
        out = tmp_path / "out.csv"
        out.symlink_to("real.csv")
        written(rows_of(tmp_path, "id,text\n1,a\n", id_column="id"), [item("1", "a")], out)
        assert out.is_symlink()
        assert (tmp_path / "real.csv").read_text().startswith("id,text,label")

    def test_what_is_no_file_is_written_to_as_it_is(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, "id,text\n1,a\n2,\n", id_column="id")
        assert written(rows, [item("1", "a")], Path("/dev/null")).rows == 2
        assert Path("/dev/null").is_char_device()

    def test_a_byte_order_mark_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "items.csv"
        path.write_text("text\nä\n", encoding="utf-16")
        rows = Rows(open_table(path, name=path.name), text_column="text", id_column=None)
        out = tmp_path / "out.csv"
        written(rows, [item(row.key, "ä") for row in rows], out)
        assert out.read_bytes().startswith(b"\xef\xbb\xbftext,label")
        assert "ä,spam" in out.read_text(encoding="utf-8-sig")
