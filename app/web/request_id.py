"""Every request has an id: in its answer's header, in its errors, in its log lines, in its span.

The id is ours, so that it is unique and nobody writes into our logs under another's. An
`X-Request-Id` of the caller's stands beside it in the logs (`caller_request_id`) if it is a sane
word, and so finds the request from the caller's side.
"""

from __future__ import annotations

import re

from starlette.types import Scope

from app.infra.ids import Kind, new_id, to_wire
from app.infra.logging import set_request_id

HEADER = "X-Request-Id"
HEADER_BYTES = HEADER.lower().encode()
_SANE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def name_request(scope: Scope) -> str:
    """Gives the request of this scope its id; the logs of the current task carry it from now on."""
    request_id = to_wire(Kind.REQUEST, new_id())
    given = next((value for name, value in scope["headers"] if name == HEADER_BYTES), b"")
    of_caller = given.decode() if given and _SANE.fullmatch(given) else None
    set_request_id(request_id, of_caller=of_caller)
    return request_id
