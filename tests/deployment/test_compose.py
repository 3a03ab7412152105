"""docker-compose.yml: what can be said of it without Docker."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from app.environment import FILE, PASSWORDS, PREFIX, SECRETS
from app.settings import Settings, load_settings
from tests.deployment.support import (
    COMPOSE,
    ROOT,
    compose,
    interpolated,
    ours,
    services,
    stages,
)

every_service = pytest.mark.parametrize("name", sorted(services()))
every_part = pytest.mark.parametrize("name", sorted(ours()))


def test_it_is_what_the_compose_specification_describes() -> None:
    # the schema comes with the checker
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(COMPOSE)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_the_parts_of_the_service_are_there() -> None:
    assert set(ours()) == {"migrate", "api", "worker", "sweeper"}
    assert set(services()) - set(ours()) == {"postgres", "valkey"}


class TestNames:
    """What is named exists, and what exists is named."""

    def used(self, key: str) -> set[str]:
        return {name for each in services().values() for name in each.get(key, ())}

    def test_dependencies(self) -> None:
        assert self.used("depends_on") <= set(services())

    def test_whoever_is_waited_for_until_it_is_healthy_has_a_check(self) -> None:
        waited = {
            (on, how["condition"])
            for each in services().values()
            for on, how in each.get("depends_on", {}).items()
        }
        assert ("postgres", "service_healthy") in waited
        assert ("migrate", "service_completed_successfully") in waited
        for on, condition in waited:
            check = services()[on]["healthcheck"]
            assert ("test" in check) or condition != "service_healthy"

    def test_secrets(self) -> None:
        assert self.used("secrets") == set(compose()["secrets"])

    def test_networks(self) -> None:
        assert self.used("networks") == set(compose()["networks"])

    def test_volumes(self) -> None:
        sources = {volume.split(":")[0] for volume in self.used("volumes")}
        assert {source for source in sources if "/" not in source} == set(compose()["volumes"])
        for source in sources:
            assert "/" not in source or (ROOT / source).is_file(), source

    @every_service
    def test_each_gets_the_secrets_it_reads_and_no_other(self, name: str) -> None:
        service = services()[name]
        text = str({key: value for key, value in service.items() if key != "secrets"})
        assert set(re.findall(r"/run/secrets/(\w+)", text)) == set(service.get("secrets", ()))


class TestConfinement:
    @every_service
    def test_an_image_with_a_tag(self, name: str) -> None:
        tag = services()[name]["image"].rpartition(":")[2]
        assert tag != services()[name]["image"]
        assert tag != "latest"

    def test_our_image_has_the_version_of_the_project(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert services()["api"]["image"] == f"secondlook:{project['version']}"
        assert f"VERSION={project['version']}" in stages()[-1].values("ARG")

    def test_our_image_is_made_here_and_never_looked_for_elsewhere(self) -> None:
        assert {each["pull_policy"] for each in ours().values()} == {"never"}
        assert [name for name, each in ours().items() if "build" in each] == ["migrate"]
        for name in set(ours()) - {"migrate"}:
            assert "migrate" in services()[name]["depends_on"]

    @every_service
    def test_an_ordinary_user_by_number(self, name: str) -> None:
        user, group = services()[name]["user"].split(":")
        assert int(user) > 0
        assert int(group) > 0

    @every_part
    def test_the_user_of_the_image(self, name: str) -> None:
        assert services()[name]["user"] == stages()[-1].value("USER")

    @every_service
    def test_nothing_can_be_written_or_gained(self, name: str) -> None:
        service = services()[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"])
        assert not {"privileged", "cap_add", "devices", "network_mode", "pid"} & set(service)

    @every_service
    def test_no_more_than_its_share(self, name: str) -> None:
        limits = services()[name]["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}

    def test_only_the_api_is_reached_from_outside_and_from_this_machine_alone(self) -> None:
        published = {name: each["ports"] for name, each in services().items() if "ports" in each}
        assert set(published) == {"api"}
        (port,) = published["api"]
        assert interpolated(port, {}) == "127.0.0.1:8000:8000"
        assert interpolated(port, {"PUBLISH_ADDRESS": "0.0.0.0"}).startswith("0.0.0.0:")

    def test_the_engines_are_on_the_inner_network_alone(self) -> None:
        assert compose()["networks"]["inside"]["internal"] is True
        for name in ("postgres", "valkey"):
            assert services()[name]["networks"] == ["inside"]


class TestSecrets:
    def test_they_are_files_that_the_repository_neither_has_nor_ignores_by_chance(self) -> None:
        ignored = (ROOT / ".gitignore").read_text().split()
        for secret in compose()["secrets"].values():
            assert set(secret) == {"file"}
            assert secret["file"].startswith("./secrets/")
        assert "/secrets/" in ignored
        assert "/.env" in ignored

    def test_make_fills_what_is_missing_and_leaves_what_is_there(self, tmp_path: Any) -> None:
        (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "openai_api_key").write_text("sk-mine\n")
        read = []
        for _ in range(2):
            subprocess.run(["make", "--silent", "secrets"], cwd=tmp_path, check=True)
            read.append({file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()})
        first, second = read
        assert first == second
        assert set(first) == set(compose()["secrets"])
        assert first.pop("openai_api_key") == "sk-mine\n"
        assert len(set(first.values())) == len(first)
        for value in first.values():
            assert re.fullmatch(r"[0-9a-f]{48}", value)
        # readable by the containers' own users, behind a folder that is the owner's alone
        assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
        for file in (tmp_path / "secrets").iterdir():
            assert file.stat().st_mode & 0o777 == 0o644

    @every_service
    def test_no_variable_holds_one(self, name: str) -> None:
        for variable, value in services()[name].get("environment", {}).items():
            if re.search(r"PASSWORD|KEY|SECRET|TOKEN", variable):
                assert variable.endswith(FILE)
                assert str(value).startswith("/run/secrets/")
            assert not re.search(r"//[^/@]*:[^/@]*@", str(value)), "a password in a URL"
            assert "TRUST" not in variable
            assert variable != "POSTGRES_HOST_AUTH_METHOD"


class TestEnvironment:
    @every_part
    def test_every_variable_is_a_setting(self, name: str) -> None:
        known = {str(field.validation_alias) for field in Settings.model_fields.values()}
        known |= set(PASSWORDS) | {variable + FILE for variable in SECRETS}
        assert set(services()[name]["environment"]) <= known

    @every_part
    def test_what_the_file_of_settings_says_reaches_every_part(self, name: str) -> None:
        assert services()[name]["env_file"] == [{"path": ".env", "required": False}]

    @pytest.mark.parametrize("name", ["api", "worker", "sweeper"])
    def test_the_settings_are_accepted(self, name: str, tmp_path: Any) -> None:
        for secret in compose()["secrets"]:
            (tmp_path / secret).write_text("0123abcd")
        environ = {
            variable: str(value).replace("/run/secrets", str(tmp_path))
            for variable, value in services()[name]["environment"].items()
            if value is not None
        }
        settings = load_settings(environ)
        assert settings.database_url == "postgresql://secondlook:0123abcd@postgres/secondlook"
        assert settings.redis_url == "redis://:0123abcd@valkey:6379/0"

    def test_only_those_that_call_the_model_have_its_key(self) -> None:
        having = {name for name, each in ours().items() if "openai_api_key" in each["secrets"]}
        assert having == {"worker", "sweeper"}

    def test_names_of_compose_itself_are_none_of_ours(self) -> None:
        # .env is read by both, and a name of ours that is no setting is refused
        for name in re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text()):
            assert not name.startswith(PREFIX)


class TestLife:
    @every_service
    def test_a_health_check_or_an_end(self, name: str) -> None:
        check = services()[name]["healthcheck"]
        if name == "migrate":
            assert check == {"disable": True}
            assert services()[name]["restart"] == "no"
            return
        assert check["test"][0] in {"CMD", "CMD-SHELL"}
        assert {"interval", "timeout", "start_period", "retries"} <= set(check)
        assert services()[name]["restart"] == "unless-stopped"

    @every_service
    def test_time_to_end_in(self, name: str) -> None:
        seconds = services()[name]["stop_grace_period"]
        assert re.fullmatch(r"\d+s", seconds)

    def test_the_api_has_time_to_drain(self) -> None:
        from app.serving.link import STOP_SECONDS  # noqa: PLC0415  # of the program it grants time

        drain = Settings.model_fields["drain_seconds"].default
        grace = int(services()["api"]["stop_grace_period"].removesuffix("s"))
        assert grace >= drain + STOP_SECONDS + 10

    def test_the_api_is_asked_as_the_image_asks_it(self) -> None:
        assert " ".join(services()["api"]["command"]) == "serve --host 0.0.0.0"
        assert services()["api"]["healthcheck"]["test"][3] in stages()[-1].value("HEALTHCHECK")
