"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns when the condition holds; pytest's own timeout ends what never does."""
    while not await condition():  # noqa: ASYNC110  # it is seen through HTTP or SQL only
        await asyncio.sleep(0.02)
