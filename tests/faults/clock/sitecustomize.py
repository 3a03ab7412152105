"""Makes a Python process believe that it is another time, by CLOCK_SHIFT_SECONDS.

Python imports this by itself where its directory is on PYTHONPATH. What measures durations is left
alone: a wrong clock goes as fast as a right one.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import TYPE_CHECKING, Any

import uuid_utils

if TYPE_CHECKING:
    from datetime import datetime as right_datetime
else:
    right_datetime = dt.datetime

_SECONDS = float(os.environ["CLOCK_SHIFT_SECONDS"])
_time, _time_ns, _uuid7 = time.time, time.time_ns, uuid_utils.uuid7


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, right_datetime)


class _Shifted(right_datetime, metaclass=_Kind):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return right_datetime.now(tz) + dt.timedelta(seconds=_SECONDS)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dt.UTC).replace(tzinfo=None)


def _shifted_ns() -> int:
    return _time_ns() + round(_SECONDS * 1e9)


def _shifted_uuid7(*, nanoseconds: int | None = None) -> uuid_utils.UUID:
    return _uuid7(nanoseconds=nanoseconds or _shifted_ns())


time.time = lambda: _time() + _SECONDS
time.time_ns = _shifted_ns
dt.datetime = _Shifted  # type: ignore[misc]  # the point of it
uuid_utils.uuid7 = _shifted_uuid7
