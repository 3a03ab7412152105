"""Serve the demo model on loopback in the OpenAI chat-completions wire format.

As a process, which prints one line that ends with its base URL and stops on SIGTERM:

    python -m app.demo.server --port 0

or inside a running event loop:

    async with DemoServer(DemoModel.train(part("train"))) as server: ... server.url
"""

import argparse
import asyncio
import json
import signal
import socket
from collections.abc import Mapping
from typing import Any, Self

from aiohttp import web

from app.demo.identity import DESCRIPTION, MODEL_ID
from app.demo.model import DemoModel
from app.demo.sample import part
from app.demo.wire import (
    ChatRequest,
    RequestError,
    choose,
    completion,
    encode,
    error_body,
    label_answer,
    models_body,
    read_request,
)

MAX_CHARACTERS = 20_000  # of an item; n-grams of a longer text would hold up everybody else
_BACKLOG = 1024


class DemoServer:
    """Answers on 127.0.0.1 while its context is open."""

    def __init__(self, model: DemoModel, *, port: int = 0) -> None:
        self._model = model
        self._port = port

    async def __aenter__(self) -> Self:
        """Listen; an address in use raises OSError."""
        self._http = web.Server(self._handle, access_log=None)
        self._listener = await asyncio.get_running_loop().create_server(
            self._http, "127.0.0.1", self._port, family=socket.AF_INET, backlog=_BACKLOG
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop listening, let the answers under way go out, close."""
        self._listener.close()
        await self._http.shutdown(timeout=5)

    @property
    def url(self) -> str:
        """The base URL for a client, with /v1."""
        return f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/v1"

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        if http.method == "POST" and http.path == "/v1/chat/completions":
            return await self._complete(http)
        if http.method == "GET" and http.path == "/v1/models":
            return _json(models_body(MODEL_ID, owner=f"secondlook ({DESCRIPTION})"))
        return _json(error_body(f"no such route: {http.method} {http.path}"), status=404)

    async def _complete(self, http: web.BaseRequest) -> web.StreamResponse:
        try:
            request = read_request(json.loads(await http.read()))
            self._check(request)
        except ValueError as error:
            param = error.param if isinstance(error, RequestError) else None
            return _json(error_body(str(error), param=param), status=400)
        if request.model != MODEL_ID:
            message = f"the one model here is {MODEL_ID}"
            return _json(error_body(message, param="model", code="model_not_found"), status=404)
        everything = self._model.probabilities(request.item)
        asked = {label: everything[label] for label in request.labels}
        choice = label_answer(
            asked,
            choose(asked, temperature=request.temperature, seed=request.seed),
            top_logprobs=request.top_logprobs,
            logprobs=request.logprobs,
        )
        return _json(
            completion(choice, request, model=MODEL_ID, fingerprint=self._model.fingerprint)
        )

    def _check(self, request: ChatRequest) -> None:
        unknown = sorted(set(request.labels) - set(self._model.labels))
        if unknown:
            raise RequestError(
                f"this demo model ({DESCRIPTION}) was never taught the label {unknown[0]!r}; "
                f"it knows {', '.join(self._model.labels)}",
                param="response_format",
            )
        if len(request.item) > MAX_CHARACTERS:
            raise RequestError(
                f"the item has more than {MAX_CHARACTERS} characters", param="messages"
            )


def _json(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(body=encode(body), content_type="application/json", status=status)


async def _serve(port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with DemoServer(DemoModel.train(part("train")), port=port) as server:
        print(f"{MODEL_ID} ({DESCRIPTION}) at {server.url}", flush=True)  # noqa: T201 - its output
        await stop.wait()


def main() -> None:
    """Train, listen, print the address, serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
