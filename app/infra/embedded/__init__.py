"""The engines of the trial: a real PostgreSQL and a real Valkey, brought by wheels."""

from app.infra.embedded.engines import EmbeddedEngines, Engine

__all__ = ["EmbeddedEngines", "Engine"]
