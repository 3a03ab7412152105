"""The disk below PostgreSQL is full: writing is refused, reading goes on, it heals by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.fill_up import fill_up
from tests.faults.full_disk import CannotMountError, move_back, move_tables, small_disk
from tests.faults.support import running_service

pytestmark = pytest.mark.timeout(300)

SETTINGS = {
    "calls_in_flight": 4,
    "call_deadline_seconds": 5.0,
    "label_lease_seconds": 10.0,
    "retry_base_seconds": 0.05,
    "sweep_seconds": 0.2,
}


class TestAFullDisk:
    async def test_refuses_to_write_reads_on_and_resumes_by_itself(self, tmp_path: Path) -> None:
        try:
            with small_disk(megabytes=64) as disk:
                async with running_service(tmp_path, settings=SETTINGS) as service:
                    await move_tables(service, disk)
                    try:
                        filled = await fill_up(service, disk, rounds=1)
                    finally:
                        move_back(service)
        except CannotMountError as error:
            pytest.skip(str(error))
        assert filled.acknowledged > 0
        assert filled.refused > 0
        assert filled.lost == 0
