from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.seeing.life import Memory, live
from tests.seeing.support import Watched, watched_service


@pytest.fixture(scope="package")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """The service, which has lived (`memory`) before anybody looks."""
    async with watched_service(tmp_path_factory.mktemp("watched")) as running:
        yield running


@pytest.fixture(scope="package")
async def memory(watched: Watched) -> Memory:
    """What the service went through."""
    return await live(watched)
