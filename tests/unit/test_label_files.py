"""Files of rows: what is read is what stands there, and comes back with more columns."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.commands.label_csv import CsvTable
from app.commands.label_jsonl import JsonlTable
from app.commands.label_lines import InputError, Record, Table
from app.commands.label_rows import open_table

on_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
cells = st.text(st.characters(codec="utf-8"), max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | cells,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(cells, inner, max_size=3),
    max_leaves=8,
)


def table_of(folder: Path, content: str | bytes, name: str = "items.csv", **more: Any) -> Table:
    path = folder / "input"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_table(path, name=name, **more)


def read(table: Table) -> list[Record]:
    return list(table.records())


class TestCsv:
    @on_one_file
    @given(
        rows=st.integers(2, 4).flatmap(
            lambda width: st.lists(
                st.lists(cells, min_size=width, max_size=width), min_size=2, max_size=6
            )
        ),
        delimiter=st.sampled_from(",;\t|"),
        newline=st.sampled_from(["\n", "\r\n"]),
        bom=st.booleans(),
    )
    def test_any_cells_come_back_in_their_place_with_more_beside_them(
        self, tmp_path: Path, rows: list[list[str]], delimiter: str, newline: str, *, bom: bool
    ) -> None:
        def written(each: list[list[str]]) -> str:
            text = io.StringIO()
            # all quoted: an older writer leaves a lone CR bare
            writer = csv.writer(
                text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL
            )
            writer.writerows(each)
            return text.getvalue()

        encoding = "utf-8-sig" if bom else "utf-8"
        table = table_of(tmp_path, written(rows).encode(encoding), delimiter=delimiter)
        records = read(table)
        assert [list(record.cells) for record in records] == rows[1:]
        assert {record.fault for record in records} <= {None}

        added = {"label": "a\n,b", "confidence": None}
        out = table.head(list(added)) + "".join(table.line(each, added) for each in records)
        again = list(csv.reader(io.StringIO(out, newline=""), delimiter=delimiter, strict=True))
        assert again == [
            [*rows[0], "label", "confidence"],
            *([*row, "a\n,b", ""] for row in rows[1:]),
        ]

    @pytest.mark.parametrize(
        ("content", "columns"),
        [
            ("id;text\n1;a, b, c\n2;d, e\n", ("id", "text")),
            ("id\ttext\n1\ta, b; c\n", ("id", "text")),
            ("id|text\n1|a\n", ("id", "text")),
            # a comma in the header of a semicolon file loses to rows that fit
            ("id;text, long\n1;a\n2;b\n", ("id", "text, long")),
            # nothing delimits anything: one column
            ("text\na; b\nc\n", ("text",)),
            ('text\n"a, b"\n', ("text",)),
        ],
    )
    def test_the_delimiter_is_found_out(
        self, tmp_path: Path, content: str, columns: tuple[str, ...]
    ) -> None:
        table = table_of(tmp_path, content)
        assert table.columns == columns
        assert [record.fault for record in read(table)] == [None] * len(read(table))

    def test_tsv_has_tabs_by_its_name(self, tmp_path: Path) -> None:
        assert table_of(tmp_path, "a,b\tc\n1,2\t3\n", "x.tsv").columns == ("a,b", "c")

    def test_bad_rows_are_named_and_the_next_ones_follow(self, tmp_path: Path) -> None:
        content = 'id,text\n1,a\n2\n\n3,b,c,d\n4,"x"y\n5,"two\nlines"\n6,z\n'
        records = read(table_of(tmp_path, content))
        assert [(each.number, each.line, each.cells[0]) for each in records] == [
            *((1, 2, "1"), (2, 3, "2"), (3, 5, "3"), (4, 6, "4"), (5, 7, "5"), (6, 9, "6"))
        ]
        faults = [each.fault for each in records]
        assert faults[0] is faults[4] is faults[5] is None
        assert faults[1] is not None
        assert faults[1].startswith("has 1 cells, the header has 2")
        assert faults[2] is not None
        assert faults[2].startswith("has 4 cells")
        assert faults[3] is not None
        assert faults[3].startswith("is not CSV")
        assert records[3].source == '4,"x"y'

    def test_bad_rows_keep_the_width_of_the_others_in_the_output(self, tmp_path: Path) -> None:
        table = table_of(tmp_path, "a,b\n1\n1,2,3\n")
        assert [table.line(each, {"label": None}) for each in read(table)] == ["1,,\n", "1,2,\n"]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "items.csv is empty"),
            (b"\n\n", "items.csv is empty"),
            (b'id,text\n1,a\n2,"never\nends\n', "line 3: a quote opens there that never ends"),
            (b"id,text\n1,a\n2,caf\xe9\n", "line 3: is not UTF-8; .* --encoding cp1252"),
        ],
    )
    def test_what_makes_the_rest_unreadable_is_an_error(
        self, tmp_path: Path, content: bytes, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            read(table_of(tmp_path, content))

    def test_a_late_bad_byte_is_found_in_its_line(self, tmp_path: Path) -> None:
        content = b"text\n" + b"x" * 99 + b"\n" + b"abc\n" * 9000 + b"\xff\n"
        with pytest.raises(InputError, match="line 9003: is not UTF-8"):
            read(table_of(tmp_path, content))

    @pytest.mark.parametrize(
        ("encoding", "given"),
        [("utf-8-sig", None), ("utf-16", None), ("utf-32", None), ("cp1252", "cp1252")],
    )
    def test_other_encodings(self, tmp_path: Path, encoding: str, given: str | None) -> None:
        table = table_of(tmp_path, "Größe,text\n1,über\n".encode(encoding), encoding=given)
        assert table.columns == ("Größe", "text")
        assert [record.cells for record in read(table)] == [("1", "über")]
        assert table.bom == (given is None)

    def test_no_such_encoding(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such encoding: klingon"):
            table_of(tmp_path, "text\na\n", encoding="klingon")

    def test_ends_of_lines_are_the_inputs(self, tmp_path: Path) -> None:
        assert table_of(tmp_path, "text\r\na\r\n").head(["label"]) == "text,label\r\n"
        assert table_of(tmp_path, "text\na\n").head(["label"]) == "text,label\n"


class TestJsonl:
    @on_one_file
    @given(rows=st.lists(st.dictionaries(cells, json_values, max_size=4), min_size=1, max_size=5))
    def test_any_objects_come_back_with_more_fields_at_their_end(
        self, tmp_path: Path, rows: list[dict[str, Any]]
    ) -> None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        table = table_of(tmp_path, text, "x.jsonl")
        records = read(table)
        assert [record.fields for record in records] == rows
        # a name that no short key can be
        added = {"secondlook_label": 'a"b', "secondlook_confidence": None}
        lines = [table.line(record, added) for record in records]
        assert [list(json.loads(line).items()) for line in lines] == [
            [*row.items(), *added.items()] for row in rows
        ]

    def test_the_text_of_an_object_is_kept_as_it_is(self, tmp_path: Path) -> None:
        table = table_of(
            tmp_path, '\ufeff{"price": 1.00, "n": 1e2, "é": "\\u00e9" }\r\n', "x.jsonl"
        )
        (record,) = read(table)
        line = table.line(record, {"label": "a"})
        assert line == '{"price": 1.00, "n": 1e2, "é": "\\u00e9", "label": "a"}\r\n'

    def test_bad_lines_are_named_and_stay_in_their_place(self, tmp_path: Path) -> None:
        table = table_of(tmp_path, '{"text": "a"}\n\n{oops\n[1]\n{"a": NaN}\n{}\n', "x.jsonl")
        records = read(table)
        assert [(each.number, each.line, each.fault) for each in records] == [
            (1, 1, None),
            (2, 3, "is not JSON at character 2"),
            (3, 4, "is no JSON object"),
            (4, 5, "is not JSON"),
            (5, 6, None),
        ]
        assert [table.line(each, {"error": "bad"}) for each in records[1:4]] == (
            ['{"error": "bad"}\n'] * 3
        )
        assert table.line(records[4], {"error": None}) == '{"error": null}\n'

    def test_one_array_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="one JSON array"):
            table_of(tmp_path, '[\n{"text": "a"}\n]\n', "x.json")

    def test_nesting_without_end_is_a_bad_row(self, tmp_path: Path) -> None:
        (record,) = read(table_of(tmp_path, '{"text": ' + "[" * 100_000 + "\n", "x.jsonl"))
        assert record.fault is not None


class TestKind:
    @pytest.mark.parametrize(
        ("name", "content", "kind"),
        [
            ("x.jsonl", '{"a": 1}\n', JsonlTable),
            ("x.csv", "{,a\n1,2\n", CsvTable),
            # without a telling name the first character tells
            ("stdin", '\n {"a": 1}\n', JsonlTable),
            ("stdin", "a,b\n1,2\n", CsvTable),
        ],
    )
    def test_by_name_then_by_content(
        self, tmp_path: Path, name: str, content: str, kind: type
    ) -> None:
        assert type(table_of(tmp_path, content, name)) is kind
