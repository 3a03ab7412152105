"""A scripted model server: real HTTP on loopback in the OpenAI chat-completions wire format.

In a test, in a thread of its own:

    with ModelServer() as model:
        model.script = [Status(status=500), Reset()]     # the first two calls, whatever the item
        model.rules = {"poison": [Hang()]}               # items whose text has the word
        model.default = [Status(status=503), Answer()]   # any item: fails once, then is answered
        ... base_url=model.url ...
        assert model.calls_per_item["some text"] == 2

Rules and the default are read per item: an item's n-th call plays their n-th entry, and the last
entry stays. Everything may be switched while calls are in flight. For a benchmark, as a process:

    python -m tests.support.model_server --latency 0.2
"""

import argparse
import asyncio
import json
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self

import uvloop
from aiohttp import web

from app.demo.wire import RequestError, error_body, models_body
from tests.support.model_plays import (
    FAULTS,
    MODEL,
    Answer,
    Call,
    Distribution,
    Play,
    Turn,
    reset,
    seeded,
)
from tests.support.model_wires import CHAT, read_any

_BACKLOG = 2048
_GOOD: Sequence[Play] = (Answer(),)


class ModelServer:
    """The server. Attributes may be set from any thread at any time; see the module's docstring.

    Attributes:
        latency: seconds before any play begins.
        distribution: the label probabilities of good answers.
        calls: every well-formed call in order of arrival (empty where `record` is false).
        calls_per_item: calls by item text.
        in_flight, max_in_flight: calls that have arrived and not ended; the most at one time.
        bad_requests: why requests were answered 400.
        interfaces: the paths it has, behind the base URL; any other is answered 404.
        labels: what there is to choose from where a request does not tell, as one has it that
            asks for no structure; None: such a request is answered 400.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        latency: float = 0,
        distribution: Distribution | None = None,
        record: bool = True,
    ) -> None:
        self.latency = latency
        self.distribution = distribution or seeded()
        self.rules: Mapping[str, Sequence[Play]] = {}
        self.default = _GOOD
        self.calls: list[Call] = []
        self.calls_per_item: Counter[str] = Counter()
        self.count = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.bad_requests: list[str] = []
        self.interfaces: Collection[str] = (CHAT,)
        self.labels: Sequence[str] | None = None
        self._record = record
        self._script: deque[Play] = deque()
        self._loop: asyncio.AbstractEventLoop
        self._http: web.Server
        self._listener: asyncio.Server | None = None
        self._socket = _bound_socket(port)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)

    @property
    def url(self) -> str:
        """The base URL for a client, with /v1."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def script(self) -> Sequence[Play]:
        """What the next calls get, one entry each, before any rule is looked at."""
        return tuple(self._script)

    @script.setter
    def script(self, plays: Iterable[Play]) -> None:
        self._script = deque(plays)

    # from any thread

    def start(self) -> Self:
        """Listen; from here on calls are answered."""
        self._loop = uvloop.new_event_loop()
        self._thread.start()
        self._ask(self._make_http())
        self.accept()
        return self

    def stop(self) -> None:
        """Reset what is in flight and end."""
        self.refuse()
        self._ask(self._http.shutdown(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._socket.close()
        self._loop.close()

    def refuse(self) -> None:
        """Be absent: open connections are reset, new ones refused; the port stays ours."""
        self._ask(self._refuse())

    def accept(self) -> None:
        """Listen (again)."""
        self._ask(self._accept())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def wait_for_calls(self, count: int) -> None:
        """Until so many well-formed calls have arrived in all."""
        while self.count < count:  # noqa: ASYNC110 - the server lives in another thread and loop
            await asyncio.sleep(0.005)

    def _ask(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    # on the server's own loop

    async def _make_http(self) -> None:
        self._http = web.Server(
            self._handle, handler_cancellation=True, access_log=None, keepalive_timeout=3600
        )

    async def _accept(self) -> None:
        if self._listener is None:
            self._listener = await self._loop.create_server(
                self._http, sock=self._socket, backlog=_BACKLOG
            )

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            # bound and not listening: the kernel refuses, and nobody else gets the port
            self._socket = _bound_socket(self.port)
        for connection in self._http.connections:
            reset(connection.transport)
        # let the transports close before anybody relies on it
        await asyncio.sleep(0)

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        path = http.path.removeprefix("/v1")
        if path in self.interfaces and http.method == "POST":
            return await self._complete(http, path)
        if http.path == "/v1/models":
            return web.json_response(models_body(MODEL, owner="secondlook-tests"))
        if http.path == "/stats":
            return web.json_response(
                {
                    "calls": self.count,
                    "items": len(self.calls_per_item),
                    "in_flight": self.in_flight,
                    "max_in_flight": self.max_in_flight,
                    "bad_requests": len(self.bad_requests),
                }
            )
        return web.json_response(error_body(f"no route {http.path}"), status=404)

    async def _complete(self, http: web.BaseRequest, path: str) -> web.StreamResponse:
        began = time.monotonic()
        try:
            body = json.loads(await http.content.read())
            request = read_any(path, body, labels=self.labels)
        except ValueError as error:
            self.bad_requests.append(str(error))
            param = error.param if isinstance(error, RequestError) else None
            return web.json_response(error_body(str(error), param=param), status=400)
        call = Call(
            number=self.count,
            item=request.item,
            request=request,
            body=body,
            headers=http.headers,
            path=path,
            began=began,
        )
        call.play = self._next_play(request.item)
        self.count += 1
        self.calls_per_item[call.item] += 1
        if self._record:
            self.calls.append(call)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            return await call.play.play(Turn(call=call, http=http, distribution=self.distribution))
        except (asyncio.CancelledError, ConnectionError):
            call.abandoned = True
            raise
        finally:
            self.in_flight -= 1
            call.ended = time.monotonic()

    def _next_play(self, item: str) -> Play:
        if self._script:
            return self._script.popleft()
        plays = next((plays for part, plays in self.rules.items() if part in item), self.default)
        return plays[min(self.calls_per_item[item], len(plays) - 1)]


def _bound_socket(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; the first line of output is the base URL."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the label distributions")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="the answer to every call")
    arguments = parser.parse_args()
    # blocked before the server's thread starts, which inherits it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = ModelServer(
        port=arguments.port,
        latency=arguments.latency,
        distribution=seeded(arguments.seed),
        record=False,
    )
    if arguments.fault:
        server.default = (FAULTS[arguments.fault],)
    with server:
        print(server.url, flush=True)  # noqa: T201 - the caller reads it
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
