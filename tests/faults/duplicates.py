"""Every wake-up delivered again and again, as a broker may."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import redis

from app.infra.jobs import LABELING_QUEUE


@dataclass
class Again:
    """What was delivered more than once.

    Attributes:
        messages: how many different ones there were.
        added: deliveries beside their first.
    """

    added: int = 0
    _seen: set[str] = field(default_factory=set)

    @property
    def messages(self) -> int:
        return len(self._seen)


@contextmanager
def delivered_again(redis_url: str, *, times: int) -> Iterator[Again]:
    """Puts every message that comes into the labelling queue into it so many times more."""
    again = Again()
    over = threading.Event()
    listening = threading.Event()

    def deliver() -> None:
        with (
            redis.Redis.from_url(redis_url) as client,
            redis.Redis.from_url(redis_url) as watching,
            watching.monitor() as monitor,
        ):
            listening.set()
            while not over.is_set():
                if not monitor.connection.can_read(timeout=0.1):
                    continue
                name, _, message = monitor.next_command()["command"].partition(" ")
                key, _, body = message.partition(" ")
                if name.upper() == "LPUSH" and key == LABELING_QUEUE and body not in again._seen:
                    again._seen.add(body)
                    client.lpush(LABELING_QUEUE, *[body] * times)
                    again.added += times

    thread = threading.Thread(target=deliver, name="duplicates", daemon=True)
    thread.start()
    listening.wait()
    try:
        yield again
    finally:
        over.set()
        thread.join()
