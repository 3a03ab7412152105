"""Settings: read once at an entry point, handed down from there; nothing reads them at import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """A setting is missing or unusable; the message names each variable and what is wrong."""


def _env(name: str, default: Any, description: str) -> Any:
    return Field(default, validation_alias=name, description=description)


class Settings(BaseSettings):
    """The service's configuration. Every field's alias is its environment variable."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

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

    database_pool_size: PositiveInt = _env(
        "SECONDLOOK_DATABASE_POOL_SIZE", 10, "connections a process keeps for plain SQL"
    )
    calls_in_flight: Annotated[int, Field(ge=1, le=2000)] = _env(
        "SECONDLOOK_CALLS_IN_FLIGHT", 64, "model calls under way at once in one worker process"
    )
    call_deadline_seconds: PositiveFloat = _env(
        "SECONDLOOK_CALL_DEADLINE_SECONDS", 60.0, "total time of an item's call and its repair"
    )
    label_lease_seconds: PositiveFloat = _env(
        "SECONDLOOK_LABEL_LEASE_SECONDS",
        120.0,
        "how long a worker may hold an item; longer than the call deadline",
    )
    time_slice_seconds: PositiveFloat = _env(
        "SECONDLOOK_TIME_SLICE_SECONDS", 20.0, "how long a worker stays with one project"
    )
    max_attempts: PositiveInt = _env(
        "SECONDLOOK_MAX_ATTEMPTS", 6, "model calls for an item before it goes to people"
    )
    retry_base_seconds: PositiveFloat = _env(
        "SECONDLOOK_RETRY_BASE_SECONDS", 2.0, "first delay after a failed call; then fourfold each"
    )
    sweep_seconds: PositiveFloat = _env(
        "SECONDLOOK_SWEEP_SECONDS", 2.0, "pause between two rounds of the sweeper"
    )
    max_body_bytes: PositiveInt = _env(
        "SECONDLOOK_MAX_BODY_BYTES", 16 * 1024 * 1024, "largest request body accepted"
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
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return value

    @field_validator("openai_base_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with overrides by field name.

    Raises:
        SettingsError: names every variable that is missing or wrong, never its value.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        raise SettingsError("; ".join(map(_sentence, problems))) from error


def database_url() -> str:
    """The one setting of commands that only read or move the database.

    Raises:
        SettingsError: DATABASE_URL is missing or wrong.
    """
    # no other server is spoken to, so none has to be named
    return load_settings(redis_url=os.environ.get("REDIS_URL") or "unix:///nowhere").database_url


def _sentence(problem: Mapping[str, Any]) -> str:
    names = {name: str(field.validation_alias) for name, field in Settings.model_fields.items()}
    name = ".".join(names.get(str(part), str(part)) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{name} is not set"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
