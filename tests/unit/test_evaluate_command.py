import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from app.commands.charts import reliability_diagram, risk_coverage_chart
from app.commands.evaluate import evaluate
from app.domain.evaluation import evaluate as evaluate_log
from app.domain.intervals import Population
from app.domain.reliability import reliability

KEYS = [
    *("n", "accuracy", "auroc", "ece", "brier", "aurc", "oracle_share", "certified_share"),
    *("threshold", "audits_used", "delivered_error"),
]

app = typer.Typer()
app.command()(evaluate)


def rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    confidences = rng.beta(8, 1, n)
    right = rng.random(n) < np.clip(confidences + 0.05, 0, 1)
    return [
        {"confidence": float(c), "prediction": "yes" if r else "no", "label": "yes"}
        for c, r in zip(confidences, right, strict=True)
    ]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("logs") / "log.jsonl", rows(1200))


class TestJson:
    def test_has_every_figure_as_a_number_and_its_interval(self, log: Path) -> None:
        result = invoke(log, "--json", "--target", "0.9")
        assert result.exit_code == 0
        told = json.loads(result.stdout)
        assert set(KEYS) <= set(told)
        assert (told["n"], told["audits_used"]) == (1200, 600)
        for key, around in told["intervals"].items():
            assert around["low"] <= told[key] <= around["high"]
            assert around["population"]["what"]
        assert told["intervals"]["certified_share"]["population"]["of"] == 600

    def test_the_seed_decides_the_audits(self, log: Path) -> None:
        first, second, other = (
            invoke(log, "--json", "--target", "0.9", "--seed", seed).stdout for seed in (1, 1, 2)
        )
        assert first == second
        assert first != other

    def test_says_what_is_missing_where_nothing_is_certified(self, log: Path) -> None:
        told = json.loads(invoke(log, "--json", "--audits", 50).stdout)
        assert (told["threshold"], told["certified_share"], told["delivered_error"]) == (None, 0, 0)
        assert "more audits" in told["missing"]

    def test_unknown_confidence_and_no_answer_are_counted(self, tmp_path: Path) -> None:
        lines = rows(100)
        lines[0]["confidence"] = None
        lines[1]["prediction"] = None
        told = json.loads(invoke(written(tmp_path / "log.jsonl", lines), "--json").stdout)
        assert told["unknown_confidence"] == 2

    def test_blank_lines_and_a_byte_order_mark_do_no_harm(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        text = "\n\n".join(json.dumps(row) for row in rows(10))
        path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n\n")
        assert json.loads(invoke(path, "--json").stdout)["n"] == 10


class TestTerminal:
    def test_shows_the_figures_and_the_verdict(self, log: Path) -> None:
        result = invoke(log, "--target", "0.9")
        assert result.exit_code == 0
        for words in ("accuracy", "AUROC", "certified share", "oracle's share", "accept at"):
            assert words in result.stdout

    def test_says_when_nothing_can_be_certified(self, log: Path) -> None:
        result = invoke(log, "--audits", 20)
        assert "nothing can be certified" in " ".join(result.stdout.split())


class TestCharts:
    def test_are_written_and_well_formed(self, log: Path, tmp_path: Path) -> None:
        out = tmp_path / "new" / "folder"
        result = invoke(log, "--target", "0.9", "--out", out)
        assert result.exit_code == 0
        assert sorted(each.name for each in out.iterdir()) == [
            "reliability.svg",
            "risk_coverage.svg",
        ]
        for path in out.iterdir():
            root = ET.fromstring(path.read_text())
            assert root.tag == "{http://www.w3.org/2000/svg}svg"

    @pytest.mark.parametrize(
        "confidences",
        [
            [1.0] * 20,  # saturated
            [0.0] * 20,
            [1 - 10.0**-k for k in range(1, 17)],  # crowding against 1
            [0.5, 0.5, 0.5, 0.6],
            [float("nan")] * 4,  # no bin at all
        ],
    )
    def test_any_confidences_can_be_drawn(self, confidences: list[float]) -> None:
        correct = [each != 0.5 for each in confidences]
        result = evaluate_log(confidences, correct, rng=np.random.default_rng(0))
        for text in (reliability_diagram(result.calibration), risk_coverage_chart(result)):
            ET.fromstring(text)
            assert "nan" not in text.lower()
            assert "inf" not in text.lower()

    def test_one_dot_a_bin(self) -> None:
        rng = np.random.default_rng(3)
        confidences = rng.random(600)
        diagram = reliability_diagram(
            reliability(confidences, rng.random(600) < confidences, population=Population("all"))
        )
        assert diagram.count("<circle") == 15

    def test_hostile_values_stay_text(self, tmp_path: Path) -> None:
        lines = rows(40)
        for line in lines:
            line["label"] = line["prediction"] = "</title><script>x</script>"
        out = tmp_path / "out"
        invoke(written(tmp_path / "log.jsonl", lines), "--out", out)
        assert "<script" not in (out / "reliability.svg").read_text()


GOOD = '{"confidence": 0.9, "prediction": "a", "label": "a"}'


class TestBadInput:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('{"prediction": "a", "label": "a"}', "line 2: confidence: missing"),
            ('{"confidence": 0.9, "label": "a"}', "line 2: prediction: missing"),
            ('{"confidence": 0.9, "prediction": "a"}', "line 2: label: missing"),
            ('{"confidence": 1.1, "prediction": "a", "label": "a"}', "line 2: confidence: must be"),
            ('{"confidence": "0.9", "prediction": "a", "label": "a"}', "line 2: confidence: must"),
            ('{"confidence": true, "prediction": "a", "label": "a"}', "line 2: confidence: must"),
            ('{"confidence": 1e999, "prediction": "a", "label": "a"}', "line 2: confidence: must"),
            ('{"confidence": "x", "prediction": null, "label": "a"}', "line 2: confidence: must"),
            ('{"confidence": NaN, "prediction": "a", "label": "a"}', "line 2: not JSON"),
            ('{"confidence": 0.9, "prediction": "a", "label": null}', "line 2: label: must not be"),
            ('{"confidence": 0.9, "prediction": "1", "label": 1}', "line 2: prediction: is of ano"),
            ('{"confidence": 0.9, "prediction": 1, "label": true}', "line 2: prediction: is of an"),
            ("[1, 2]", "line 2: not a JSON object"),
            ('{"confidence": 0.9', "line 2: not JSON"),
            ("[" * 100_000, "line 2: not JSON"),
        ],
    )
    def test_names_the_line_and_the_field(self, line: str, words: str, tmp_path: Path) -> None:
        path, out = tmp_path / "log.jsonl", tmp_path / "out"
        path.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
        result = invoke(path, "--out", out)
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stdout == ""
        assert not out.exists()

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        path.write_bytes(GOOD.encode() + b"\n\xff\xfe\n")
        result = invoke(path)
        assert (result.exit_code, "line 2: not UTF-8" in result.stderr) == (2, True)

    @pytest.mark.parametrize("text", ["", "\n\n"])
    def test_an_empty_file(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        path.write_text(text)
        result = invoke(path)
        assert (result.exit_code, "no lines" in result.stderr) == (2, True)

    def test_an_absent_file(self, tmp_path: Path) -> None:
        result = invoke(tmp_path / "absent.jsonl")
        assert result.exit_code == 2
        assert "absent.jsonl" in result.stderr

    @pytest.mark.parametrize(
        "option", [("--target", "1"), ("--delta", "0"), ("--audits", "1200"), ("--audits", "0")]
    )
    def test_an_option_outside_its_range(self, option: tuple[str, str], log: Path) -> None:
        result = invoke(log, *option)
        assert result.exit_code == 2
        assert option[0].strip("-") in result.stderr

    def test_a_folder_in_the_way_leaves_nothing_half_written(
        self, log: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "risk_coverage.svg").mkdir()
        result = invoke(log, "--out", tmp_path)
        assert result.exit_code == 2
        assert "risk_coverage.svg" in result.stderr
        assert [each.name for each in tmp_path.iterdir()] == ["risk_coverage.svg"]

    def test_a_file_where_the_folder_should_be(self, log: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("")
        assert invoke(log, "--out", tmp_path / "out").exit_code == 2
