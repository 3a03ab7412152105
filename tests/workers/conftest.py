"""The stage of the labelling tests, for what works in the background."""

from __future__ import annotations

from tests.labeling.conftest import (  # noqa: F401  # fixtures by name
    api,
    database_url,
    labeling,
    model_server,
    running_model_server,
    settings,
    sql,
    stage,
)
