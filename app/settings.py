"""Settings: read once at an entry point, handed down from there; nothing reads them at import."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from app.environment import (
    PASSWORDS,
    SettingsError,
    check_http_url,
    check_postgres_url,
    check_redis_url,
    check_spelling,
    read_given,
    with_urls,
)

__all__ = [
    "Settings",
    "SettingsError",
    "database_url",
    "load_settings",
    "service_urls",
    "with_urls",
]

_log = logging.getLogger(__name__)
# no setting is sensibly longer, and infinity is not longer than a lease
Seconds = Annotated[float, Field(gt=0, le=3600)]


def _env(name: str, default: Any, description: str) -> Any:
    return Field(default, validation_alias=name, description=description)


class Settings(BaseModel):
    """The service's configuration. Every field's alias is its environment variable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        # a URL may hold a password, and an error ends in a log
        hide_input_in_errors=True,
    )

    database_url: str = Field(
        validation_alias="DATABASE_URL", description="postgresql://… of a PostgreSQL 15 or newer"
    )
    redis_url: str = Field(
        validation_alias="REDIS_URL",
        description="redis://…, rediss://… or unix:///path of a Redis or Valkey",
    )

    openai_base_url: str | None = _env(
        "OPENAI_BASE_URL", None, "an OpenAI-compatible server; none means the SDK's own default"
    )
    openai_api_key: SecretStr | None = _env(
        "OPENAI_API_KEY", None, "sent to OPENAI_BASE_URL only, never to another server"
    )
    model: str | None = _env("SECONDLOOK_MODEL", None, "the model of labelers that do not name one")

    database_pool_size: Annotated[int, Field(ge=1, le=200)] = _env(
        "SECONDLOOK_DATABASE_POOL_SIZE", 10, "connections a process keeps for plain SQL"
    )
    calls_in_flight: Annotated[int, Field(ge=1, le=2000)] = _env(
        "SECONDLOOK_CALLS_IN_FLIGHT", 64, "model calls under way at once in one worker process"
    )
    call_deadline_seconds: Seconds = _env(
        "SECONDLOOK_CALL_DEADLINE_SECONDS", 60.0, "total time of an item's call and its repair"
    )
    label_lease_seconds: Seconds = _env(
        "SECONDLOOK_LABEL_LEASE_SECONDS",
        120.0,
        "how long a worker may hold an item; longer than the call deadline",
    )
    time_slice_seconds: Seconds = _env(
        "SECONDLOOK_TIME_SLICE_SECONDS", 20.0, "how long a worker stays with one project"
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = _env(
        "SECONDLOOK_MAX_ATTEMPTS", 6, "model calls for an item before it goes to people"
    )
    breaker_failures: Annotated[int, Field(ge=1, le=10_000)] = _env(
        "SECONDLOOK_BREAKER_FAILURES",
        10,
        "calls that fail in a row before an endpoint is left alone for a while",
    )
    retry_base_seconds: Seconds = _env(
        "SECONDLOOK_RETRY_BASE_SECONDS", 2.0, "first delay after a failed call; then fourfold each"
    )
    sweep_seconds: Annotated[float, Field(gt=0, le=60)] = _env(
        "SECONDLOOK_SWEEP_SECONDS", 2.0, "pause between two rounds of the sweeper"
    )
    max_body_bytes: Annotated[int, Field(ge=1024, le=1024**3)] = _env(
        "SECONDLOOK_MAX_BODY_BYTES", 16 * 1024 * 1024, "largest request body accepted"
    )
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = _env(
        "SECONDLOOK_DRAIN_SECONDS",
        5.0,
        "how long the API serves on after it was told to stop, for balancers to take it out",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _env(
        "SECONDLOOK_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR"
    )
    access_log: bool = _env(
        "SECONDLOOK_ACCESS_LOG", False, "a log line for each request: route, status, duration"
    )
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = _env(
        "SECONDLOOK_METRICS_PORT", None, "where a worker or the sweeper serves /metrics"
    )
    metrics_host: str = _env(
        "SECONDLOOK_METRICS_HOST", "127.0.0.1", "the address of SECONDLOOK_METRICS_PORT"
    )
    data_dir: Path | None = _env(
        "SECONDLOOK_DATA_DIR", None, "where the embedded engines keep their data"
    )

    @model_validator(mode="after")
    def _lease_outlives_call(self) -> Self:
        if self.label_lease_seconds <= self.call_deadline_seconds:
            raise ValueError(
                "SECONDLOOK_LABEL_LEASE_SECONDS must be longer than "
                "SECONDLOOK_CALL_DEADLINE_SECONDS, or every slow call is made twice"
            )
        return self

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: str) -> str:
        return check_postgres_url(value)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        return check_redis_url(value)

    @field_validator("openai_base_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return None if value is None else check_http_url(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


_NAMES: Mapping[str, str] = {
    str(field.validation_alias): name for name, field in Settings.model_fields.items()
}


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, with overrides by field name.

    Args:
        environ: where to look; the process's own environment where None.
        overrides: values that are known already, by field name.

    Raises:
        SettingsError: names every variable that is missing or wrong, never its value.
    """
    environ = os.environ if environ is None else environ
    check_spelling(environ, _NAMES, warn=_log.warning)
    given = read_given(environ, (*_NAMES, *PASSWORDS))
    return _validated({_NAMES[name]: value for name, value in given.items()} | overrides)


def database_url(environ: Mapping[str, str] | None = None) -> str:
    """The one setting of commands that only read or move the database.

    Raises:
        SettingsError: DATABASE_URL is missing or wrong.
    """
    environ = os.environ if environ is None else environ
    given = read_given(environ, ("DATABASE_URL", "DATABASE_PASSWORD"))
    # no other server is spoken to, so none has to be named
    known = {"database_url": url} if (url := given.get("DATABASE_URL")) else {}
    return _validated({**known, "redis_url": "unix:///nowhere"}).database_url


def service_urls(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The URLs of PostgreSQL and Redis that the environment names, each None where it does not.

    Raises:
        SettingsError: a variable that would name one is unusable.
    """
    given = read_given(environ, (*PASSWORDS.values(), *PASSWORDS))
    return given.get("DATABASE_URL"), given.get("REDIS_URL")


def _validated(values: Mapping[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        raise SettingsError("; ".join(map(_sentence, problems))) from error


def _sentence(problem: Mapping[str, Any]) -> str:
    names = {field: name for name, field in _NAMES.items()}
    name = ".".join(names.get(str(part), str(part)) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{name} is not set"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
