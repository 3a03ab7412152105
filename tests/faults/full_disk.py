"""A disk that fills up under the service's tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from app.infra.embedded.postgres import DATABASE
from tests.faults.support import Service
from tests.support import processes


class CannotMountError(Exception):
    """This account may not mount a disk of its own, or this machine has no such thing."""


@dataclass(frozen=True)
class Disk:
    """A small disk in memory."""

    path: Path

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.path).free

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Leaves not a byte."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def clear(self) -> None:
        """Gives the space back."""
        self._ballast.unlink()


@contextmanager
def small_disk(*, megabytes: int) -> Iterator[Disk]:
    """A disk for the length of the block.

    Raises:
        CannotMountError: it can't be had here.
    """
    path = Path(tempfile.mkdtemp(prefix="secondlook-disk-"))
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    try:
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", *options], check=False, capture_output=True
        )
        if not mounted or mounted.returncode != 0:
            raise CannotMountError("a disk can be mounted by root only, where it may")
        try:
            yield Disk(path)
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
    finally:
        path.rmdir()


async def move_tables(service: Service, disk: Disk) -> None:
    """Puts the service's tables on a disk; the log of what is committed stays where it was.

    The API is down meanwhile, since nobody may be connected.
    """
    service.server.kill()
    place = disk.path / "tables"
    place.mkdir()
    disk.path.chmod(0o755)
    owner = (service.directory / "engines" / "postgres").stat()
    os.chown(place, owner.st_uid, owner.st_gid)
    url = service.settings.database_url.replace(f"/{DATABASE}?", "/postgres?")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(place)))
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            (DATABASE,),
        )
        admin.execute(f"ALTER DATABASE {DATABASE} SET TABLESPACE small".encode())
    service.server.start()
    await processes.until_answered(f"{service.api.base_url}/readyz")


def move_back(service: Service) -> None:
    """Puts the tables back, so that the disk can go; everything else must have been stopped."""
    service.server.kill()
    url = service.settings.database_url.replace(f"/{DATABASE}?", "/postgres?")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            (DATABASE,),
        )
        admin.execute(f"ALTER DATABASE {DATABASE} SET TABLESPACE pg_default".encode())
        admin.execute("DROP TABLESPACE small")
