"""Where the engines' sockets are: in the data directory if its path will do, else below /tmp.

A Unix socket's path may have 107 bytes on Linux and 103 on macOS, and libpq takes a comma in it for
the end of one host and the beginning of another.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from app.infra.supervisor import Account, StartError

SOCKET_PATH_BYTES = 103
POSTGRES_SOCKET = ".s.PGSQL.5432"


class Runtime:
    """The directory of the sockets of one data directory; its place follows from that directory."""

    def __init__(self, data_dir: Path, account: Account | None) -> None:
        self._account = account
        self.path = _place(data_dir, account)
        self.postgres = self.path / "pg"
        self.valkey_socket = self.path / "valkey.sock"

    def make(self) -> None:
        """Make it anew, empty: what an earlier instance left, such as lock files, must go.

        Raises:
            StartError: somebody else has put something in its place.
        """
        self.remove()
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise StartError(f"{self.path} is in the way and not ours; remove it.") from error
        self.postgres.mkdir(mode=0o700)
        if self._account is not None:
            self.path.chmod(0o711)
            os.chown(self.postgres, self._account.uid, self._account.gid)

    def remove(self) -> None:
        """Remove it if it is there and ours."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        # In /tmp another account may have put a link or a directory of that name.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            shutil.rmtree(self.path)


def _place(data_dir: Path, account: Account | None) -> Path:
    identity = f"{os.geteuid()}:".encode() + os.fsencode(data_dir.resolve())
    name = f"secondlook-{hashlib.sha256(identity).hexdigest()[:12]}"
    places = [Path(tempfile.gettempdir()) / name, Path("/tmp") / name]  # noqa: S108  see remove()
    if account is None:  # another account may have no way into the data directory
        places.insert(0, data_dir / "run")
    for place in places:
        path = os.fsencode(place / "pg" / POSTGRES_SOCKET)
        if len(path) <= SOCKET_PATH_BYTES and b"," not in path:
            return place
    raise AssertionError("a path below /tmp will do")
