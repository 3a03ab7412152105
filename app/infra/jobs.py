"""Waking workers. A wake-up is a hint that may be lost: Postgres holds the work, a sweeper mends.

Publishing can hang (with Redis frozen, for ever), so it happens on a thread of its own with short
socket timeouts, after the commit, coalesced to one message a project, and nobody waits for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import redis
from celery import Celery

from app.infra import metrics
from app.infra.telemetry import message_headers

DRAIN_TASK = "secondlook.drain"
LABELING_QUEUE = "labeling"
SWEEPER_LOCK = 7_405_103_222
"""The advisory lock of the sweeper that is active; any number that nobody else uses."""
_SOCKET_TIMEOUT = 2.0
# How long a wake-up counts as under way when nobody says that it arrived.
_PENDING_SECONDS = 5
_log = logging.getLogger(__name__)


class WakeUps(Protocol):
    """Asks that somebody looks at a project's pending items soon."""

    def request(self, project_id: uuid.UUID) -> None:
        """Returns at once; may be lost."""


def broker_url(redis_url: str) -> str:
    """The broker's address as kombu spells it."""
    if not redis_url.startswith("unix://"):
        return redis_url
    parts = urlsplit(redis_url)
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


def make_celery(redis_url: str) -> Celery:
    """The Celery application of both sides, publisher and worker."""
    celery = Celery("secondlook", broker=broker_url(redis_url), set_as_current=False)
    celery.conf.update(
        task_default_queue=LABELING_QUEUE,
        task_ignore_result=True,
        # nobody waits for the result of a child that was killed, and its place is needed
        worker_lost_wait=0.1,
        # a message is only a wake-up: acknowledged early, never redelivered, never retried
        task_acks_late=False,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": _SOCKET_TIMEOUT,
            "socket_connect_timeout": _SOCKET_TIMEOUT,
        },
        worker_hijack_root_logger=False,
        # nobody reads them, and they cost a message each
        worker_send_task_events=False,
        worker_enable_remote_control=False,
    )
    return celery


def _flag(project_id: uuid.UUID) -> str:
    return f"secondlook:wake:{project_id}"


class RedisWakeUps:
    """Publishes wake-ups through Celery; safe to call from any thread or loop.

    A flag in Redis names the newest wake-up of a project that is under way. While it stands no
    other is sent. It falls after a few seconds, since its message may be lost; the message may
    also just wait in a long queue, so whoever receives one that is not the newest lets it be:
    otherwise a queue that is slower than the flags would grow for as long as the backlog lasts,
    and a project that comes new would wait behind all of it.
    """

    def __init__(self, redis_url: str) -> None:
        self._celery = make_celery(redis_url)
        self._redis = redis.Redis.from_url(
            redis_url,
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            # a hint is not worth trying again for: the next one, or the sweeper, makes up for it
            retry=None,
        )
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="wake-ups")
        self._queued: set[uuid.UUID] = set()
        self._lock = threading.Lock()
        self._healthy = True
        self._closing = False

    @property
    def healthy(self) -> bool:
        """Whether the last wake-up could be published."""
        return self._healthy

    def request(self, project_id: uuid.UUID) -> None:
        with self._lock:
            if self._closing or project_id in self._queued:
                return
            self._queued.add(project_id)
            # with the request that asks: its id in the logs, its span over the message
            self._publisher.submit(contextvars.copy_context().run, self._publish, project_id)

    def arrived(self, project_id: uuid.UUID, wake_up: str) -> bool:
        """Whether whoever received a wake-up should look for work, or leave it to a newer one.

        If so, the flag is down: whatever commits from now on asks for a new wake-up. Must be
        called before the worker looks for work, else a commit in between is not told.
        """
        try:
            newest = self._redis.get(_flag(project_id))
            if newest is not None and newest != wake_up.encode():
                return False
            self._redis.delete(_flag(project_id))
        except redis.RedisError:
            _log.debug("wake-up flag of %s could not be taken down", project_id)
        return True

    def close(self) -> None:
        """Sends what was asked for, unless Redis is away; asks after this are dropped."""
        with self._lock:
            self._closing = True
        self._publisher.shutdown(wait=True)
        self._redis.close()
        self._celery.close()

    def _publish(self, project_id: uuid.UUID) -> None:
        # first, so that a commit during the publishing asks again
        with self._lock:
            self._queued.discard(project_id)
        if self._closing and not self._healthy:
            return
        try:
            self._send(project_id)
            self._healthy = True
            metrics.wake_up("sent")
        except Exception as error:  # noqa: BLE001  # kombu raises whatever the transport raises
            if self._healthy:
                _log.warning("no wake-up sent, the sweeper takes over: %s", type(error).__name__)
            self._healthy = False
            metrics.wake_up("lost")

    def _send(self, project_id: uuid.UUID) -> None:
        wake_up = uuid.uuid4().hex
        flag = _flag(project_id)
        if not self._redis.set(flag, wake_up, nx=True, ex=_PENDING_SECONDS):
            return
        try:
            self._celery.send_task(
                DRAIN_TASK,
                args=[str(project_id), wake_up],
                queue=LABELING_QUEUE,
                headers=message_headers(),
            )
        except Exception:
            with contextlib.suppress(redis.RedisError):
                self._redis.delete(flag)
            raise
