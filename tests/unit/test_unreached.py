"""Why a server was not reached, in words that help whoever named it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.labeling.client import CallError, OpenAIClients
from app.labeling.unreached import why_unreached


class OfALibraryError(Exception):
    """Holds the system's error as aiohttp's do."""

    def __init__(self, os_error: OSError) -> None:
        self.os_error = os_error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(111, "Connect call failed"), "it refused the connection"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "its host name could not be looked up"),
        (ssl.SSLCertVerificationError("self-signed"), "TLS failed"),
        (TimeoutError(), "the connection timed out"),
        (OSError(110, "timed out"), "the connection timed out"),
    ],
)
def test_the_cause_is_told(error: OSError, words: str) -> None:
    assert why_unreached(error) == words
    assert why_unreached(OfALibraryError(error)) == words
    outer = RuntimeError("outer")
    outer.__cause__ = OfALibraryError(error)
    assert why_unreached(outer) == words


def test_what_tells_no_more_is_named_by_its_class() -> None:
    assert why_unreached(ConnectionResetError()) == "ConnectionResetError"
    endless = OfALibraryError(OSError())
    endless.__cause__ = endless
    assert why_unreached(endless) == "OfALibraryError"


@contextmanager
def plain_server() -> Iterator[int]:
    """The port of somebody who answers whatever comes with plain text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"what?\r\n" * 10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


async def said_by(base_url: str) -> str:
    clients = OpenAIClients(base_url=base_url, api_key=None, calls_in_flight=1)
    try:
        with pytest.raises(CallError) as caught:
            await clients.get(None).complete("/chat/completions", {})
    finally:
        await clients.close()
    return caught.value.said


async def test_a_real_connection_that_fails_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refused = "the model server could not be reached: it refused the connection"
    assert await said_by(f"http://127.0.0.1:{port}/v1") == refused
    with plain_server() as port:
        failed = "the model server could not be reached: TLS failed"
        assert await said_by(f"https://127.0.0.1:{port}/v1") == failed
