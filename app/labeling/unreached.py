"""Why no connection was had, or why it broke, in words of people rather than of a library."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Final

# The lookup itself failed, so that nothing is known of the host; `EAI_NODATA` is Linux's alone.
_NO_SUCH_HOST: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)})


def why_unreached(cause: BaseException) -> str:
    """As the end of a sentence about the server; the class's name where it tells no more."""
    for error in _chain(cause):
        # what a library calls its own classes is no part of its interface; what they are made of is
        if isinstance(error, ssl.SSLError | ssl.CertificateError):
            return "TLS failed"
        if isinstance(error, socket.gaierror):
            known = error.errno in _NO_SUCH_HOST
            return "no such host" if known else "its host name could not be looked up"
        if isinstance(error, ConnectionRefusedError):
            return "it refused the connection"
        if isinstance(error, TimeoutError):
            return "the connection timed out"
    return type(cause).__name__


def _chain(cause: BaseException) -> Iterator[BaseException]:
    """An error, what it says it was made of, and what it was raised from; no longer than needed."""
    found: BaseException | None = cause
    for _ in range(10):
        if found is None:
            return
        yield found
        # aiohttp keeps the system's error beside its own
        inner = getattr(found, "os_error", None)
        found = (
            inner if isinstance(inner, BaseException) and inner is not found else found.__cause__
        )
