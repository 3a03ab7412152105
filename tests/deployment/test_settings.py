"""What an operator may get wrong in the environment, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest
import redis

from app.settings import (
    Settings,
    SettingsError,
    database_url,
    load_settings,
    service_urls,
    with_urls,
)

ENOUGH = {
    "DATABASE_URL": "postgresql://me@db/secondlook",
    "REDIS_URL": "redis://broker:6379/0",
}


def complaint(environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return str(caught.value)


class TestWhatIsGiven:
    def test_two_urls_are_enough(self) -> None:
        settings = load_settings(ENOUGH)
        assert settings.database_url == ENOUGH["DATABASE_URL"]
        assert settings.model is None

    def test_nothing_names_all_that_is_required(self) -> None:
        assert complaint({}) == "DATABASE_URL is not set; REDIS_URL is not set"

    @pytest.mark.parametrize("empty", ["", "  ", "\n"])
    def test_an_empty_value_is_none(self, empty: str) -> None:
        # what compose makes of ${SECONDLOOK_MODEL:-}
        settings = load_settings(
            {**ENOUGH, "SECONDLOOK_MODEL": empty, "SECONDLOOK_MAX_ATTEMPTS": empty}
        )
        assert settings.model is None
        assert settings.max_attempts == 6
        assert complaint({**ENOUGH, "DATABASE_URL": empty}) == "DATABASE_URL is not set"

    def test_white_space_around_a_value_does_not_count(self) -> None:
        # a settings file written on Windows
        assert load_settings({**ENOUGH, "SECONDLOOK_MODEL": "gpt\r"}).model == "gpt"

    def test_what_is_known_already_wins(self) -> None:
        assert load_settings(ENOUGH, model="mine").model == "mine"


class TestFiles:
    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        file = tmp_path / "secret"
        file.write_text("p@ss:w/o?#%41 \n")
        return file

    def test_every_secret_may_be_a_file(self, tmp_path: Path) -> None:
        values = {**ENOUGH, "OPENAI_API_KEY": "sk-1"}
        environ = {}
        for name, value in values.items():
            (tmp_path / name).write_text(f"{value}\r\n")
            environ[f"{name}_FILE"] = str(tmp_path / name)
        settings = load_settings(environ)
        assert settings.database_url == values["DATABASE_URL"]
        assert settings.redis_url == values["REDIS_URL"]
        assert settings.openai_api_key is not None
        assert settings.openai_api_key.get_secret_value() == "sk-1"

    def test_a_password_of_any_characters_reaches_postgres(self, secret: Path) -> None:
        settings = load_settings({**ENOUGH, "DATABASE_PASSWORD_FILE": str(secret)})
        read = psycopg.conninfo.conninfo_to_dict(settings.database_url)
        assert read["password"] == "p@ss:w/o?#%41 "
        assert (read["user"], read["host"], read["dbname"]) == ("me", "db", "secondlook")

    @pytest.mark.parametrize(
        ("url", "rest"),
        [
            ("redis://broker:6379/0", {"host": "broker", "port": 6379, "db": 0}),
            ("rediss://me@broker", {"host": "broker", "username": "me"}),
            ("unix:///run/valkey.sock?db=2", {"path": "/run/valkey.sock", "db": 2}),
        ],
    )
    def test_a_password_of_any_characters_reaches_redis(
        self, secret: Path, url: str, rest: dict[str, Any]
    ) -> None:
        settings = load_settings({**ENOUGH, "REDIS_URL": url, "REDIS_PASSWORD_FILE": str(secret)})
        pool = redis.ConnectionPool.from_url(settings.redis_url)
        read: dict[str, Any] = pool.connection_kwargs
        assert read["password"] == "p@ss:w/o?#%41 "
        assert {key: read[key] for key in rest} == rest

    def test_both_is_an_error(self, secret: Path) -> None:
        said = complaint({**ENOUGH, "OPENAI_API_KEY": "sk-1", "OPENAI_API_KEY_FILE": str(secret)})
        assert said == "OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set: take one away"

    def test_two_passwords_are_an_error(self, secret: Path) -> None:
        url = "postgresql://me:other@db/secondlook"
        said = complaint({**ENOUGH, "DATABASE_URL": url, "DATABASE_PASSWORD_FILE": str(secret)})
        assert (
            said == "DATABASE_URL has a password, and DATABASE_PASSWORD is set too: take one away"
        )

    def test_a_password_without_its_url(self) -> None:
        said = complaint({"DATABASE_URL": ENOUGH["DATABASE_URL"], "REDIS_PASSWORD": "x"})
        assert said == "REDIS_PASSWORD is set without REDIS_URL, which it belongs in"

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        said = complaint({**ENOUGH, "OPENAI_API_KEY_FILE": str(tmp_path / "absent")})
        assert said == "OPENAI_API_KEY_FILE: the file can't be read: No such file or directory"

    def test_a_file_that_holds_no_text(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_bytes(b"\xff\xfe\x00")
        said = complaint({**ENOUGH, "OPENAI_API_KEY_FILE": str(file)})
        assert said == "OPENAI_API_KEY_FILE: the file holds something else than text"

    def test_an_empty_file_is_no_password_and_no_key(self, tmp_path: Path) -> None:
        file = tmp_path / "empty"
        file.write_text("\n")
        said = complaint({**ENOUGH, "DATABASE_PASSWORD_FILE": str(file)})
        assert said == "DATABASE_PASSWORD_FILE: the file is empty"
        assert load_settings({**ENOUGH, "OPENAI_API_KEY_FILE": str(file)}).openai_api_key is None

    def test_a_command_for_the_database_reads_no_other_secret(self, tmp_path: Path) -> None:
        environ = {
            "DATABASE_URL": ENOUGH["DATABASE_URL"],
            "REDIS_PASSWORD_FILE": str(tmp_path / "absent"),
        }
        assert database_url(environ) == ENOUGH["DATABASE_URL"]
        with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
            database_url({})

    def test_children_get_the_urls_and_nothing_that_competes(self, secret: Path) -> None:
        environ = {**ENOUGH, "DATABASE_PASSWORD_FILE": str(secret), "HOME": "/srv"}
        database, redis = service_urls(environ)
        assert database is not None
        assert redis is not None
        child = with_urls(environ, database_url=database, redis_url=redis)
        assert child == {"DATABASE_URL": database, "REDIS_URL": redis, "HOME": "/srv"}
        assert load_settings(child).database_url == database

    def test_no_file_no_urls(self) -> None:
        assert service_urls({"HOME": "/srv"}) == (None, None)


class TestSpelling:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("SECONDLOOK_MODLE", "SECONDLOOK_MODEL"),
            ("SECONDLOOK_LOGLEVEL", "SECONDLOOK_LOG_LEVEL"),
            ("SECONDLOOK_MAX_ATTEMPT", "SECONDLOOK_MAX_ATTEMPTS"),
            ("SECONDLOOK_LEASE_SECONDS", "SECONDLOOK_LABEL_LEASE_SECONDS"),
            ("SECONDLOOK_CALLS_IN_FLIHGT", "SECONDLOOK_CALLS_IN_FLIGHT"),
        ],
    )
    def test_a_misspelt_name_is_told_with_the_nearest(self, written: str, meant: str) -> None:
        said = complaint({**ENOUGH, written: "1"})
        assert said == f"{written} is no setting: did you mean {meant}?"

    def test_an_unknown_name_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        load_settings({**ENOUGH, "SECONDLOOK_FROM_THE_FUTURE": "1"})
        assert caplog.messages == ["SECONDLOOK_FROM_THE_FUTURE is no setting and has no effect"]

    def test_what_kubernetes_sets_for_a_service_is_nobodys_mistake(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        for_a_service = {
            "SECONDLOOK_API_SERVICE_HOST": "10.0.0.1",
            "SECONDLOOK_API_SERVICE_PORT": "8000",
            "SECONDLOOK_API_SERVICE_PORT_HTTP": "8000",
            "SECONDLOOK_API_PORT": "tcp://10.0.0.1:8000",
            "SECONDLOOK_API_PORT_8000_TCP": "tcp://10.0.0.1:8000",
            "SECONDLOOK_API_PORT_8000_TCP_PROTO": "tcp",
            "SECONDLOOK_SERVICE_HOST": "10.0.0.1",
            "SECONDLOOK_PORT": "tcp://10.0.0.1:8000",
        }
        load_settings({**ENOUGH, **for_a_service, "SECONDLOOK_KEY": "slk_of_a_client"})
        assert caplog.messages == []


class TestValues:
    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("SECONDLOOK_MAX_ATTEMPTS", "many", "valid integer"),
            ("SECONDLOOK_MAX_ATTEMPTS", "0", "greater than or equal to 1"),
            ("SECONDLOOK_MAX_ATTEMPTS", "2.5", "valid integer"),
            ("SECONDLOOK_CALLS_IN_FLIGHT", "2001", "less than or equal to 2000"),
            ("SECONDLOOK_DATABASE_POOL_SIZE", "-1", "greater than or equal to 1"),
            ("SECONDLOOK_SWEEP_SECONDS", "nan", "less than or equal to 60"),
            ("SECONDLOOK_SWEEP_SECONDS", "inf", "less than or equal to 60"),
            ("SECONDLOOK_RETRY_BASE_SECONDS", "0", "greater than 0"),
            ("SECONDLOOK_MAX_BODY_BYTES", "16MB", "valid integer"),
            ("SECONDLOOK_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
            ("OPENAI_BASE_URL", "localhost:11434/v1", "must begin with http:// or https://"),
            ("OPENAI_BASE_URL", "https:///v1", "names no host"),
            ("OPENAI_BASE_URL", "http://host:port/v1", "names a port that can't be read"),
        ],
    )
    def test_out_of_range(self, name: str, value: str, said: str) -> None:
        message = complaint({**ENOUGH, name: value})
        assert message.startswith(f"{name}: ")
        assert said in message

    def test_a_lease_shorter_than_a_call(self) -> None:
        said = complaint({**ENOUGH, "SECONDLOOK_CALL_DEADLINE_SECONDS": "120"})
        assert "SECONDLOOK_LABEL_LEASE_SECONDS must be longer" in said

    def test_every_problem_is_told_at_once(self) -> None:
        said = complaint({"SECONDLOOK_MAX_ATTEMPTS": "0", "DATABASE_URL": "mysql://db/x"})
        for name in ("DATABASE_URL", "REDIS_URL", "SECONDLOOK_MAX_ATTEMPTS"):
            assert f"{name}: " in said or f"{name} is not set" in said

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("mysql://db/x", "must begin with postgresql://"),
            ("postgresql", "must begin with postgresql://"),
            ("postgresql+psycopg://me@db/x", "must begin with postgresql:// and name no driver"),
            ("postgresql:///x", "names no host"),
            ("postgresql://me@/x", "names no host"),
            ("postgresql://db", "names no database"),
            ("postgresql://me@db:5432/", "names no database"),
            ("postgresql://me@db:port/x", "names a host or port that can't be read"),
            ("postgresql://me:p@ss@db/x", "%40"),
            ("postgresql://me:p/ss@db/x", "%2F"),
            ("postgresql://me:p#ss@db/x", "%23"),
            ("postgresql://me:100%@db/x", "%25"),
            ("postgresql://[::1/x", "is no URL"),
        ],
    )
    def test_database_urls_that_would_fail_later(self, url: str, said: str) -> None:
        message = complaint({**ENOUGH, "DATABASE_URL": url})
        assert message.startswith("DATABASE_URL: ")
        assert said in message

    @pytest.mark.parametrize(
        "url",
        [
            "postgres://db/x",
            "postgresql://me:p%40ss@db:5432/x?sslmode=require",
            "postgresql://me@/x?host=%2Frun%2Fpostgresql",
            "postgresql:///x?host=/run/postgresql",
            "postgresql://me@one:5432,two:5433/x?target_session_attrs=read-write",
            "postgresql://me@[::1]:5432/x",
            "postgresql://?service=secondlook",
        ],
    )
    def test_database_urls_that_libpq_reads(self, url: str) -> None:
        assert load_settings({**ENOUGH, "DATABASE_URL": url}).database_url == url
        assert psycopg.conninfo.conninfo_to_dict(url)

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("broker:6379", "must begin with redis://"),
            ("redis://", "names no host"),
            ("redis:///0", "names no host"),
            ("redis://broker:port", "names a port that can't be read"),
            ("redis://broker/zero", "names its database by something else than a number"),
            ("redis://:p/ss@broker", "%2F"),
            ("unix://", "names no socket"),
        ],
    )
    def test_redis_urls_that_would_fail_later(self, url: str, said: str) -> None:
        message = complaint({**ENOUGH, "REDIS_URL": url})
        assert message.startswith("REDIS_URL: ")
        assert said in message

    @pytest.mark.parametrize(
        "environ",
        [
            {"DATABASE_URL": "postgresql://me:canary@db"},
            {"DATABASE_URL": "postgresql://me:canary@[/x"},
            {"DATABASE_URL": "mysql://me:canary@db/x", "SECONDLOOK_MAX_ATTEMPTS": "canary"},
            {"REDIS_URL": "redis://:canary@broker/x"},
            {"DATABASE_URL": "postgresql://me:a@db/x", "DATABASE_PASSWORD": "canary"},
            {"OPENAI_API_KEY": "canary", "OPENAI_API_KEY_FILE": "/canary"},
        ],
    )
    def test_no_value_is_repeated_not_even_in_a_traceback(self, environ: dict[str, str]) -> None:
        import traceback  # noqa: PLC0415  # what an entry point that does not catch it prints

        with pytest.raises(SettingsError) as caught:
            load_settings({**ENOUGH, **environ})
        assert "canary" not in "".join(traceback.format_exception(caught.value))

    def test_a_field_that_is_none(self) -> None:
        with pytest.raises(SettingsError, match="no_such_field"):
            load_settings(ENOUGH, no_such_field=1)
        assert "no_such_field" not in Settings.model_fields
