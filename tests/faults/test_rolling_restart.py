"""API processes, workers and sweepers replaced under load: nobody notices.

`SECONDLOOK_ROLLS=50 pytest tests/faults/test_rolling_restart.py` is the long form.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.renewals import renew_hosts, renew_in_place

ROLLS = int(os.environ.get("SECONDLOOK_ROLLS", "1"))
pytestmark = pytest.mark.timeout(300 + 60 * ROLLS)


class TestARollingRestart:
    async def test_of_processes_that_share_a_socket(self, tmp_path: Path) -> None:
        load = await renew_in_place(tmp_path, rolls=ROLLS)
        assert load.failures == []
        assert load.answered.total() > 100 * ROLLS

    @pytest.mark.long
    async def test_of_hosts_behind_a_balancer_that_follows_readiness(self, tmp_path: Path) -> None:
        load = await renew_hosts(tmp_path, rolls=ROLLS)
        assert load.failures == []
        assert load.answered.total() > 100 * ROLLS
