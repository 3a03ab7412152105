import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from app.commands.agreement import agreement

app = typer.Typer()
app.command()(agreement)

# irrCAC, cont3x3abstractors: two raters, 100 items
ABSTRACTORS = [[13, 0, 0], [0, 20, 7], [0, 4, 56]]


def invoke(path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, [str(path), *options])


def csv_file(folder: Path, rows: list[str], header: str = "item,rater,rating") -> Path:
    path = folder / "ratings.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def abstractors(tmp_path: Path) -> Path:
    cells = [
        (i, j) for i, row in enumerate(ABSTRACTORS) for j, n in enumerate(row) for _ in range(n)
    ]
    rows = [f"{item},a,{i}\n{item},b,{j}" for item, (i, j) in enumerate(cells)]
    return csv_file(tmp_path, rows)


class TestJson:
    def test_has_the_published_figures_with_intervals(self, abstractors: Path) -> None:
        told = json.loads(invoke(abstractors, "--json").stdout)
        assert told["percent_agreement"] == pytest.approx(0.89)
        assert told["cohen_kappa"] == pytest.approx(0.7964094, abs=5e-8)
        assert told["gwet_ac1"] == pytest.approx(0.8493305, abs=5e-8)
        assert told["krippendorff_alpha"]["nominal"] == pytest.approx(0.7972585, abs=5e-8)
        assert set(told["krippendorff_alpha"]) == {"nominal", "ordinal", "interval"}
        assert told["intervals"]["cohen_kappa"]["low"] == pytest.approx(0.68, abs=0.002)
        assert told["intervals"]["cohen_kappa"]["high"] == pytest.approx(0.913, abs=0.002)
        alpha = told["intervals"]["krippendorff_alpha"]["nominal"]
        assert alpha["low"] < told["krippendorff_alpha"]["nominal"] < alpha["high"]

    def test_three_raters_have_no_cohen_kappa(self, tmp_path: Path) -> None:
        rows = [
            f"{item},{rater},{(item + (rater == 'c')) % 2}" for item in range(9) for rater in "abc"
        ]
        assert "cohen_kappa" not in json.loads(invoke(csv_file(tmp_path, rows), "--json").stdout)

    def test_text_has_no_interval_alpha(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, ["1,a,yes", "1,b,no", "2,a,no", "2,b,no"])
        told = json.loads(invoke(path, "--json").stdout)
        assert told["krippendorff_alpha"]["interval"] is None
        assert told["krippendorff_alpha"]["nominal"] is not None

    def test_empty_ratings_are_missing_and_other_columns_ignored(self, tmp_path: Path) -> None:
        path = csv_file(
            tmp_path,
            ["x,1,a,1", "x,1,b,1", "x,2,a,", "x,2,b,3"],
            header="\ufeffnote,item,rater,rating",
        )
        told = json.loads(invoke(path, "--json").stdout)
        assert (told["ratings"], told["items"], told["items_rated_once"]) == (3, 1, 1)


class TestTerminal:
    def test_shows_the_figures(self, abstractors: Path) -> None:
        result = invoke(abstractors)
        assert result.exit_code == 0
        for words in ("Fleiss' kappa", "0.7964", "Gwet's AC1", "alpha, ordinal"):
            assert words in result.stdout


class TestBadInput:
    @pytest.mark.parametrize(
        ("header", "row", "words"),
        [
            ("item,rater", "1,a", "line 1: rating"),
            ("item,rater,rating,rating", "1,a,x,y", "line 1: rating"),
            ("item,rater,rating", ",a,x", "line 2: item: must not be empty"),
            ("item,rater,rating", "1, ,x", "line 2: rater: must not be empty"),
            ("item,rater,rating", "1,a", "line 2: rating: missing"),
            ("item,rater,rating", "1,a,x,y", "line 2: more fields"),
            ("item,rater,rating", '1,a,"x', "after line 1: not CSV"),
            ("item,rater,rating", "1,a,x\0", "NUL"),
            ("item,rater,rating", "1,a,", "no ratings"),
        ],
    )
    def test_names_the_line_and_the_column(
        self, header: str, row: str, words: str, tmp_path: Path
    ) -> None:
        result = invoke(csv_file(tmp_path, [row], header))
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stdout == ""

    def test_a_header_that_will_not_do_is_told_what_is_needed_and_what_is_there(
        self, tmp_path: Path
    ) -> None:
        result = invoke(csv_file(tmp_path, ["1,a,x"], "item,annotator,label"))
        assert "needed: item, rater, rating; found: item, annotator, label" in result.stderr

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "line 1: item"),
            (b"item,rater,rating\n", "no ratings"),
            (b"item,rater,rating\n1,a,x\n1,b,\xff\n", "line 3: not UTF-8"),
        ],
    )
    def test_what_is_no_table_of_ratings(self, content: bytes, words: str, tmp_path: Path) -> None:
        path = tmp_path / "ratings.csv"
        path.write_bytes(content)
        result = invoke(path)
        assert (result.exit_code, words in result.stderr) == (2, True)

    def test_an_absent_file(self, tmp_path: Path) -> None:
        result = invoke(tmp_path / "absent.csv")
        assert (result.exit_code, "absent.csv" in result.stderr) == (2, True)

    def test_free_text_is_not_rated_in_categories(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, [f"{i},a,text {i}" for i in range(5000)])
        result = invoke(path)
        assert (result.exit_code, "too many different values" in result.stderr) == (2, True)
