"""What a parent and the processes that serve for it say to each other, a byte a message."""

from __future__ import annotations

READY = b"r"
"""Of a process: it accepts connections."""
RETIRE = b"l"
"""Of the parent: another has taken your place."""
HURRY = b"h"
"""Of the parent: end now, whatever is in flight."""

STOP_SECONDS = 20.0
"""How long requests in flight may take once the drain time is over."""
