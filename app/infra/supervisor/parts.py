"""What a part of the process tree is, when it counts as ready, and how often it may crash."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias


class StartError(Exception):
    """Secondlook can't start or go on; the message says what is wrong and, if known, what to do."""


class PartFailedError(StartError):
    """A part ended and can't be brought back; the message ends with the last lines of its log."""


class InterruptedStartError(StartError):
    """The supervisor was told to stop while something was still starting."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account a part runs as when it must not run as its starter."""

    name: str
    uid: int
    gid: int


class Running(Protocol):
    """What a readiness check may know of the process it judges."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def seconds(self) -> float:
        """How long it has been running."""

    def log_text(self) -> str:
        """What it has written to its log since this start."""


ReadyCheck: TypeAlias = Callable[[Running], bool]
Announce: TypeAlias = Callable[[str], None]


def answers_http(host: str, port: int, path: str) -> ReadyCheck:
    """Ready when `path` answers 200. Proxies of the environment are not asked."""

    def check(_process: Running) -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=1)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


def log_says(*words: str) -> ReadyCheck:
    """Ready when its log has any of these words since this start."""

    def check(process: Running) -> bool:
        text = process.log_text()
        return any(word in text for word in words)

    return check


def stays_up(seconds: float) -> ReadyCheck:
    """Ready when it has lived this long: for a part that has nothing to ask."""

    def check(process: Running) -> bool:
        return process.seconds >= seconds

    return check


@dataclass(frozen=True, kw_only=True)
class Part:
    """One supervised process.

    Attributes:
        argv: program and arguments; no shell.
        env: its whole environment.
        directory: its working directory; with an account, given to it as OPEN_DIRECTORY instead.
        ready: asked about twenty times a second until true; must answer within about a second.
        ready_seconds: not ready by then counts as failed for good.
        stage: parts of a higher stage are stopped first, those of one stage together.
        once: it is to end with status 0 rather than to stay.
        essential: everything ends when it can't be brought back; otherwise it is tried for ever.
        stop_signal: asks it to end; goes to the process alone, not to its children.
        grace_seconds: how long it may take before force_signal follows.
        force_signal: ends it when the grace is over or a second signal hurries.
        death_signal: what the kernel sends it when the supervisor dies (Linux).
        account: whom to run it as; None is the supervisor's own account.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    directory: Path
    ready: ReadyCheck = field(default_factory=lambda: stays_up(0.5))
    ready_seconds: float = 180.0  # a cold start on a busy machine takes half of it
    stage: int = 0
    once: bool = False
    essential: bool = True
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    force_signal: signal.Signals = signal.SIGKILL
    death_signal: signal.Signals = signal.SIGKILL
    account: Account | None = None


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """How a crashed part comes back.

    Attributes:
        first_pause: seconds before the first restart; each further one doubles it.
        longest_pause: where the doubling ends.
        give_up_after: crashes in a row that end the attempt.
        settled_seconds: being ready for so long makes the next crash the first one again.
    """

    first_pause: float = 0.2
    longest_pause: float = 5.0
    give_up_after: int = 5
    settled_seconds: float = 30.0

    def pause(self, crashes: int) -> float:
        """Seconds to wait after the given number of crashes in a row (1 or more)."""
        doublings = min(crashes - 1, 64)  # what is tried for ever must not overflow
        return min(self.longest_pause, self.first_pause * 2.0**doublings)
