"""A database that is not there: a line for a person, whatever the command talks to it through."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["doctor", "migrate", "admin-key"])
def test_is_said_in_one_line(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", command],
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL": f"postgresql://somebody@127.0.0.1:{port}/nothing",
            "REDIS_URL": "redis://127.0.0.1:1/0",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("secondlook: ")]
    assert len(said) == 1, done.stderr
    assert "the database can't be reached" in said[0]
