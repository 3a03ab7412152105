"""Every wake-up delivered again and again, as a broker may."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import redis

from app.infra.jobs import LABELING_QUEUE


@dataclass
class Again:
    """What was delivered more than once.

    Attributes:
        seen: the different messages there were.
        added: deliveries beside their first.
    """

    seen: set[bytes] = field(default_factory=set)
    added: int = 0

    @property
    def messages(self) -> int:
        return len(self.seen)


# as MONITOR quotes what it shows
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')


@contextmanager
def delivered_again(redis_url: str, *, times: int) -> Iterator[Again]:
    """Puts every message that comes into the labelling queue into it so many times more."""
    again = Again()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as watching,
        redis.Redis.from_url(redis_url) as client,
    ):
        watching.connect(urlsplit(redis_url).path)
        watching.sendall(b"MONITOR\r\n")
        lines = watching.makefile("rb")
        assert lines.readline() == b"+OK\r\n"

        def deliver() -> None:
            for line in lines:
                words = [re.sub(rb"\\(.)", rb"\1", word) for word in _WORD.findall(line)]
                if words[:2] == [b"LPUSH", LABELING_QUEUE.encode()] and words[2] not in again.seen:
                    again.seen.add(words[2])
                    client.lpush(LABELING_QUEUE, *words[2:3] * times)
                    again.added += times

        thread = threading.Thread(target=deliver, name="duplicates", daemon=True)
        thread.start()
        try:
            yield again
        finally:
            watching.shutdown(socket.SHUT_RDWR)
            thread.join()
