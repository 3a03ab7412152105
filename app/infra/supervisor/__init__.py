"""A process tree of named parts: start, watch, restart, stop in order."""

from app.infra.supervisor.datadir import DataDir
from app.infra.supervisor.launch import OPEN_DIRECTORY
from app.infra.supervisor.parts import (
    Account,
    Announce,
    InterruptedStartError,
    Part,
    PartFailedError,
    ReadyCheck,
    RestartPolicy,
    Running,
    StartError,
    answers_http,
    log_says,
    stays_up,
)
from app.infra.supervisor.tree import Supervisor

__all__ = [
    "OPEN_DIRECTORY",
    "Account",
    "Announce",
    "DataDir",
    "InterruptedStartError",
    "Part",
    "PartFailedError",
    "ReadyCheck",
    "RestartPolicy",
    "Running",
    "StartError",
    "Supervisor",
    "answers_http",
    "log_says",
    "stays_up",
]
