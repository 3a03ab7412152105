"""What the command is told, and what it says when that makes no sense."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.commands.label_options import (
    LabelOptions,
    UsageError,
    default_out,
    read_labels,
    require_writable,
    wanted_project,
)
from app.commands.label_project import policy_words
from app.commands.label_service import endpoint_of


def options(**more: Any) -> LabelOptions:
    plain = dict.fromkeys(LabelOptions.__dataclass_fields__)
    given = {
        "items": "items.csv",
        "instructions": "",
        "source": "logprobs",
        "give_up_after": 120.0,
        **more,
    }
    return LabelOptions(**{**plain, **given})


class TestLabels:
    @pytest.mark.parametrize(
        ("given", "names"),
        [("a,b,c", ("a", "b", "c")), (" a , b b,", ("a", "b b")), ("größer,kleiner", None)],
    )
    def test_on_the_command_line(self, given: str, names: tuple[str, ...] | None) -> None:
        labels = read_labels(options(labels=given))
        assert labels is not None
        assert labels.names == (names or ("größer", "kleiner"))

    @pytest.mark.parametrize(
        ("content", "names", "descriptions"),
        [
            ("a\n\n b, c \n", ("a", "b, c"), ("", "")),
            ("\ufeffa\r\nb\r\n", ("a", "b"), ("", "")),
            ('["a", {"name": "b", "description": "bb"}]', ("a", "b"), ("", "bb")),
            ('{"a": "aa", "b": ""}', ("a", "b"), ("aa", "")),
        ],
    )
    def test_in_a_file(
        self, tmp_path: Path, content: str, names: tuple[str, ...], descriptions: tuple[str, ...]
    ) -> None:
        path = tmp_path / "labels"
        path.write_text(content, encoding="utf-8", newline="")
        labels = read_labels(options(labels_file=path))
        assert labels is not None
        assert labels.names == names
        assert tuple(label.description for label in labels) == descriptions

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ('["a", 3]', "label 2 must be a name or"),
            ('[{"name": "a", "colour": "red"}]', "label 1 must be a name or"),
            ('{"a": 3}', "label 1 must be a name or"),
            ('["a"', "is not JSON"),
        ],
    )
    def test_a_file_that_is_none(self, tmp_path: Path, content: str, words: str) -> None:
        path = tmp_path / "labels.json"
        path.write_text(content)
        with pytest.raises(UsageError, match=words):
            read_labels(options(labels_file=path))

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (
                "bug,billing,Bug",
                r"--labels: label 3 \(Bug\) is the same as label 1 \(bug\) but for case",
            ),
            ("a", "at least 2 labels are needed, 1 given"),
            (f"a,{'b' * 201}", r"label 2 \(b+\) must have at most 200 characters"),
            ("a,b\x07c", "must not hold a control character"),
        ],
    )
    def test_what_is_wrong_is_said_by_name_and_not_by_pointer(self, given: str, words: str) -> None:
        with pytest.raises(UsageError, match=words) as caught:
            read_labels(options(labels=given))
        assert "/name" not in str(caught.value)

    def test_a_description_is_named_too(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.json"
        path.write_text(json.dumps({"a": "x" * 2001, "b": ""}))
        with pytest.raises(UsageError, match=r"the description of label 1 \(a\) must have at most"):
            read_labels(options(labels_file=path))

    def test_two_ways_at_once(self) -> None:
        with pytest.raises(UsageError, match="give one of the two"):
            read_labels(options(labels="a,b", labels_file=Path("x")))


def name_of(endpoint: str = "", **more: Any) -> str:
    given = options(**{"labels": "a,b", "model": "m", **more})
    return wanted_project(given, read_labels(given), endpoint=endpoint).name


class TestProject:
    def test_is_found_again_wherever_the_file_lies_and_however_it_is_written(self) -> None:
        same = name_of(items="/elsewhere/items.csv", out="x.csv", threshold=0.5, workers=3)
        assert same == name_of()
        assert same.startswith("items.csv ")

    @pytest.mark.parametrize(
        "more",
        [
            {"labels": "a,b,c"},
            {"model": "n"},
            {"instructions": "be kind"},
            {"endpoint": "http://other/v1"},
            {"text_column": "body"},
            {"source": "auto"},
            {"id_column": "id"},
            {"items": "others.csv"},
        ],
    )
    def test_another_question_is_another_project(self, more: dict[str, Any]) -> None:
        assert name_of(**more) != name_of()

    def test_a_name_is_taken_as_it_is(self) -> None:
        assert name_of(project="mine") == "mine"

    def test_there_must_be_something_to_ask(self) -> None:
        with pytest.raises(UsageError, match="which labels"):
            wanted_project(options(), None, endpoint="")

    def test_policies_in_words(self) -> None:
        assert policy_words({"kind": "fixed_threshold", "threshold": 0.9}) == "the threshold 0.9"
        assert policy_words({"kind": "review_all"}) == "the policy review_all"


class TestEndpoint:
    @pytest.mark.parametrize(
        ("more", "environ", "words"),
        [
            ({}, {"OPENAI_API_KEY": "x"}, "--model"),
            ({"model": "m"}, {}, "OPENAI_API_KEY"),
            ({"service": "localhost:8000"}, {"SECONDLOOK_KEY": "x"}, "no http or https URL"),
            ({"service": "http://localhost:8000"}, {}, "set SECONDLOOK_KEY"),
        ],
    )
    def test_what_is_missing_is_named(
        self, more: dict[str, Any], environ: dict[str, str], words: str
    ) -> None:
        with pytest.raises(UsageError, match=words):
            endpoint_of(options(**more), environ)

    @pytest.mark.parametrize(
        ("more", "environ", "endpoint"),
        [
            ({"model": "m"}, {"OPENAI_API_KEY": "x"}, ""),
            ({"model": "m"}, {"OPENAI_API_KEY_FILE": "/x"}, ""),
            ({"model": "m", "base_url": "http://h/v1/"}, {}, "http://h/v1"),
            # the service knows its own model
            ({"service": "http://h"}, {"SECONDLOOK_KEY": "x"}, ""),
        ],
    )
    def test_who_is_asked(
        self, more: dict[str, Any], environ: dict[str, str], endpoint: str
    ) -> None:
        assert endpoint_of(options(**more), environ) == endpoint


class TestOut:
    def test_stands_beside_the_input(self) -> None:
        assert default_out(options(items="a/items.csv")) == Path("a/items.labeled.csv")

    def test_is_never_the_input(self, tmp_path: Path) -> None:
        source = tmp_path / "items.csv"
        source.touch()
        (tmp_path / "link.csv").symlink_to(source)
        for out in (source, tmp_path / "link.csv"):
            with pytest.raises(UsageError, match="is the input"):
                require_writable(out, source, kind="CSV")

    @pytest.mark.parametrize(("name", "kind"), [("x.jsonl", "CSV"), ("x.csv", "JSONL")])
    def test_has_the_format_of_the_input(self, tmp_path: Path, name: str, kind: str) -> None:
        with pytest.raises(UsageError, match=f"the output is {kind}"):
            require_writable(tmp_path / name, tmp_path / "in", kind=kind)

    def test_can_be_written_or_is_told_before_anything_starts(self, tmp_path: Path) -> None:
        source = tmp_path / "in"
        source.touch()
        with pytest.raises(UsageError, match=r"no/x.csv can't be written: No such file or dir"):
            require_writable(tmp_path / "no" / "x.csv", source, kind="CSV")
        with pytest.raises(UsageError, match="is a folder"):
            require_writable(tmp_path, source, kind="CSV")
        require_writable(tmp_path / "x.csv", source, kind="CSV")
        assert list(tmp_path.iterdir()) == [source], "nothing is left of the trial"
