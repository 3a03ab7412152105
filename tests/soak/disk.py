"""A disk that fills up, again and again."""

from __future__ import annotations

from pathlib import Path

from tests.faults.fill_up import fill_up
from tests.faults.full_disk import CannotMountError, move_back, move_tables, small_disk
from tests.faults.support import running_service
from tests.soak.broker import SETTINGS
from tests.soak.figures import Part


async def full_disk(part: Part, directory: Path, scale: float) -> None:
    """Writing is refused, reading goes on, it resumes by itself, and nothing is lost or spoilt."""
    rounds = max(1, round(10 * scale))
    try:
        with small_disk(megabytes=128) as disk:
            async with running_service(directory, settings=SETTINGS) as service:
                await move_tables(service, disk)
                try:
                    filled = await fill_up(service, disk, rounds=rounds)
                finally:
                    service.worker.kill()
                    service.sweeper.kill()
                    move_back(service)
    except CannotMountError as error:
        part.say(f"left out: {error}")
        return
    part.tell("times the disk was full", rounds)
    part.tell("items acknowledged", filled.acknowledged)
    part.tell("requests refused for it", filled.refused)
    part.tell("acknowledged items lost or spoilt", filled.lost, limit=0)
