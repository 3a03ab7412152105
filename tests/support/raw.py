"""Bytes on a socket: what no well-behaved client would send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from tests.support.api import Api


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came; header names in lower case, the last of each."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The problem document, which this must be."""
        assert self.status == status, self.body
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert (document["status"], document["code"]) == (status, code)
        assert document["request_id"] == self.headers["x-request-id"]
        return document


async def send_raw(api: Api, request: bytes) -> RawAnswer:
    """Sends bytes on a connection of their own; the first answer. The sending side stays open."""
    host, _, port = api.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return RawAnswer(int(head[0].split()[1]), headers, body)
    finally:
        writer.close()
        await writer.wait_closed()


def raw_get(target: str, *, key: str | None, **headers: str) -> bytes:
    """A GET with the target just as it stands."""
    lines = [f"GET {target} HTTP/1.1", "Host: secondlook.test"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
