"""Rows as items: what is sent, under which id, and what is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.commands.label_lines import InputError
from app.commands.label_rows import ADDED, Row, Rows, added_names, content_digest, open_table


def rows_of(
    folder: Path,
    content: str,
    name: str = "items.csv",
    *,
    text_column: str | None = None,
    id_column: str | None = None,
) -> Rows:
    path = folder / name
    path.write_bytes(content.encode())
    return Rows(open_table(path, name=name), text_column=text_column, id_column=id_column)


def sent(row: Row) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(row.body)
    return item


class TestColumns:
    @pytest.mark.parametrize(
        ("header", "column"),
        [("id,text", "text"), ("id, Text ", " Text "), ("review", "review")],
    )
    def test_the_obvious_text_column_is_found(
        self, tmp_path: Path, header: str, column: str
    ) -> None:
        assert rows_of(tmp_path, f"{header}\n").text_column == column

    @pytest.mark.parametrize(
        ("header", "options", "words"),
        [
            ("id,body", {}, "--text-column; there are: id, body"),
            ("text,TEXT", {}, "--text-column; there are: text, TEXT"),
            (
                "id,",
                {"text_column": "x"},
                "column x is not there; there are: id, .a column without",
            ),
            ("id,a,a", {"text_column": "a"}, "column a is there more than once"),
            ("id,text", {"id_column": "key"}, "--id-column: the column key is not there"),
        ],
    )
    def test_otherwise_the_columns_there_are_named(
        self, tmp_path: Path, header: str, options: dict[str, str], words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            rows_of(tmp_path, f"{header}\n", **options)

    def test_objects_without_it_are_told_of_its_keys(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no object has a body; there are: a, b"):
            rows_of(tmp_path, '{"a": 1, "b": 2}\n', "x.jsonl", text_column="body")

    def test_an_object_need_not_be_the_first_to_have_it(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, '{"a": 1}\n{"body": "x"}\n', "x.jsonl", text_column="body")
        assert [row.fault for row in rows] == ["has no body", None]


class TestItems:
    def test_the_text_is_sent_and_the_rest_goes_along(self, tmp_path: Path) -> None:
        (row,) = rows_of(tmp_path, "id,text,note\n7, a b ,x\n")
        assert sent(row) == {
            "external_id": f"sha256:{content_digest({'text': ' a b '})}",
            "text": " a b ",
            "metadata": {"id": "7", "note": "x"},
        }
        assert row.key == sent(row)["external_id"]
        assert row.digest == content_digest({"text": " a b "})

    def test_equal_texts_have_one_key_wherever_they_stand(self, tmp_path: Path) -> None:
        first, other, again = rows_of(tmp_path, "text,n\na,1\nb,2\na,3\n")
        assert first.key == again.key != other.key
        moved = list(rows_of(tmp_path, "text,n\nb,9\na,1\n"))
        assert [row.key for row in moved] == [other.key, first.key]

    def test_an_id_column_names_the_items(self, tmp_path: Path) -> None:
        rows = list(rows_of(tmp_path, "k,text\nx1,a\nx2,a\n,b\n", id_column="k"))
        assert [row.key for row in rows] == ["x1", "x2", ""]
        assert rows[2].fault == "k: must have at least 1 character"

    @pytest.mark.parametrize(
        ("value", "key", "fault"),
        [("17", "17", None), ("null", "", "k: must have at least"), ("[1]", "", "k: must be a s")],
    )
    def test_ids_of_objects_may_be_numbers(
        self, tmp_path: Path, value: str, key: str, fault: str | None
    ) -> None:
        (row,) = rows_of(tmp_path, f'{{"k": {value}, "text": "a"}}\n', "x.jsonl", id_column="k")
        assert row.key == key
        assert (row.fault or "").startswith(fault or "")
        assert (row.fault is None) == (fault is None)

    def test_a_list_is_a_chat(self, tmp_path: Path) -> None:
        turns = [{"role": "user", "content": "hello"}]
        text = json.dumps({"chat": turns, "n": {"deep": [1.5, None]}}) + "\n"
        (row,) = rows_of(tmp_path, text, "x.jsonl", text_column="chat")
        assert sent(row)["messages"] == turns
        assert sent(row)["metadata"] == {"n": {"deep": [1.5, None]}}
        # as the service gives it back: its keys in whatever order
        assert row.digest == content_digest({"messages": [{"content": "hello", "role": "user"}]})

    @pytest.mark.parametrize(
        ("value", "fault"),
        [
            ('""', "text: is empty"),
            ('" \\n "', "text: is empty"),
            ("null", "text: is empty"),
            ("[]", "text: is empty"),
            ("17", "text: must be a valid string"),
            ('{"a": 1}', "text: must be a valid string"),
            ('"a\\u0000b"', "text: has a NUL character at position 1"),
            ('"a\\ud800"', "text: has a lone surrogate"),
            ('[{"role": "user"}]', "text: 0/content required"),
            (json.dumps("x" * (1024 * 1024 + 1)), "text: has 1048577 bytes, at most 1048576 fit"),
        ],
    )
    def test_what_the_service_would_refuse_is_not_sent(
        self, tmp_path: Path, value: str, fault: str
    ) -> None:
        (row,) = rows_of(tmp_path, f'{{"text": {value}}}\n', "x.jsonl", text_column="text")
        assert (row.fault or "")[: len(fault)] == fault.replace("valid string", "string")
        assert row.body == b""

    @pytest.mark.parametrize("other", ['"a\\u0000b"', '"' + "x" * 70_000 + '"', "1e999"])
    def test_what_can_not_go_along_is_left_out(self, tmp_path: Path, other: str) -> None:
        (row,) = rows_of(tmp_path, f'{{"text": "a", "other": {other}}}\n', "x.jsonl")
        assert row.fault is None
        assert sent(row).keys() == {"external_id", "text"}


class TestSurvey:
    def test_counts_rows_and_faults_and_names_the_first(self, tmp_path: Path) -> None:
        found = rows_of(tmp_path, "text,n\na,1\n,2\nb,3\nc\n").survey(prefix=None)
        assert (found.rows, found.faulty) == (4, 2)
        assert found.first_fault == "row 2 (line 3): text: is empty"
        assert found.taken == frozenset()

    def test_names_in_use_are_found_in_any_object(self, tmp_path: Path) -> None:
        rows = rows_of(tmp_path, '{"text": "a"}\n{"text": "b", "label": "x"}\n', "x.jsonl")
        assert rows.survey(prefix=None).taken == {"label"}
        assert rows.survey(prefix="my_").taken == frozenset()


class TestNames:
    @pytest.mark.parametrize(
        ("taken", "prefix", "first"),
        [
            ({"text"}, None, "label"),
            # one that is taken renames them all, so that they can be told from the input's
            ({"confidence"}, None, "secondlook_label"),
            ({"label"}, "my_", "my_label"),
            ({"secondlook_label"}, None, "label"),
        ],
    )
    def test_new_names_never_meet_those_of_the_input(
        self, taken: set[str], prefix: str | None, first: str
    ) -> None:
        names = added_names(frozenset(taken), prefix=prefix)
        assert tuple(names) == ADDED
        assert names["label"] == first
        assert not taken & set(names.values())

    @pytest.mark.parametrize(
        ("taken", "prefix"),
        [({"label", "secondlook_error"}, None), ({"label"}, ""), ({"my_route"}, "my_")],
    )
    def test_where_they_must_the_way_out_is_told(self, taken: set[str], prefix: str | None) -> None:
        with pytest.raises(InputError, match="--prefix"):
            added_names(frozenset(taken), prefix=prefix)
