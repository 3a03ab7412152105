"""What a server says of a failure is shown without keys, and without what was asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import test_utils, web
from hypothesis import given
from hypothesis import strategies as st

from app.labeling.client import CallError, OpenAIClients
from app.labeling.endpoint import status_error
from app.labeling.server_words import MOST_SAID, words_of

ITEM = "My card was charged twice on Monday, and nobody answers the phone."
ASKED = {
    "model": "gpt-4o-mini-2024-07-18-long",
    "messages": [
        {"role": "system", "content": "Say which department must answer this mail."},
        {"role": "user", "content": [{"type": "text", "text": ITEM}]},
    ],
    "response_format": {"type": "json_schema", "json_schema": {"enum": ["billing", "key"]}},
}


def words(message: object, *, status: int = 401, key: str | None = None) -> str:
    return words_of(status, {"error": {"message": message}}, asked=ASKED, key=key)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Incorrect API key provided: sk-proj-Ab12.", "Incorrect API key provided: ***"),
        ("Incorrect API key provided: abc1****9xyz.", "Incorrect API key provided: ***."),
        ("bad token 'hf_AbCdEf'", "bad token '***'"),
        ("no such key: slk_0a1b2c", "no such key: ***"),
        (
            "Authorization was Bearer q1w2e3, which is wrong",
            "Authorization was ***, which is wrong",
        ),
        ("denied: 0123456789abcdef0123456789abcdef", "denied: ***"),
        ("denied: AIzaSyA-b_c1", "denied: ***"),
        ("wrong: our-own-secret!", "wrong: ***!"),
        # no key at all
        ("The model `gpt-4o-mini-2024-07-18-long` does not exist", None),
        ("billing is not active; the key may be old", None),
        ("You exceeded your quota.\n\tSee \x1b[1mhttps://x.test/limits", None),
    ],
)
def test_keys_are_masked_and_all_else_is_shown(message: str, shown: str | None) -> None:
    plain = " ".join(message.split()).replace("\x1b", "")
    assert words(message, key="our-own-secret") == (plain if shown is None else shown)


@pytest.mark.parametrize(
    ("status", "heard"),
    [(400, 0), (401, 1), (403, 1), (404, 1), (408, 0), (413, 0), (422, 0), (429, 1), (503, 1)],
)
def test_only_what_is_about_the_endpoint_is_heard(status: int, heard: int) -> None:
    assert words("it is so", status=status) == "it is so" * heard


@pytest.mark.parametrize(
    "document",
    [None, "page", [], {"error": "words"}, {"message": "words"}, {"error": {"message": ["words"]}}],
)
def test_only_the_message_of_an_error_is_heard(document: Any) -> None:
    assert words_of(500, document, asked=ASKED) == ""


@given(start=st.integers(0, len(ITEM) - 23), length=st.integers(23, 60), status=st.just(500))
def test_a_message_that_quotes_an_item_is_dropped(start: int, length: int, status: int) -> None:
    quoted = ITEM[start : start + length]
    assert words(f"can't handle: {quoted.upper()} (at all)", status=status) == ""


def test_a_short_item_is_known_as_a_word() -> None:
    asked = {"messages": [{"role": "user", "content": "Anna K."}]}
    for message, shown in (("no anna k. here", ""), ("no Annabel here", "no Annabel here")):
        assert words_of(500, {"error": {"message": message}}, asked=asked) == shown


@given(st.text(max_size=600))
def test_whatever_it_says_is_short_and_printable(message: str) -> None:
    shown = words(message)
    assert len(shown) <= MOST_SAID
    assert shown.isprintable()


def test_an_error_says_it_after_our_own_words() -> None:
    body = json.dumps({"error": {"message": "no " * 200}}).encode()
    said = status_error(404, {}, body, asked=ASKED).said
    assert said.startswith("the model server answered 404: no no")
    assert len(said) == MOST_SAID
    assert status_error(404, {}, body).said == "the model server answered 404"


async def test_the_key_that_was_sent_is_not_shown_whatever_it_looks_like() -> None:
    async def tell(request: web.Request) -> web.Response:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        return web.json_response({"error": {"message": f"not known: {key}!"}}, status=401)

    site = web.Application()
    site.router.add_post("/v1/chat/completions", tell)
    async with test_utils.TestServer(site) as server:
        url = str(server.make_url("/v1"))
        clients = OpenAIClients(base_url=url, api_key="plainly", calls_in_flight=1)
        try:
            with pytest.raises(CallError) as caught:
                await clients.get(None).complete("/chat/completions", ASKED)
        finally:
            await clients.close()
    assert caught.value.said == "the model server answered 401: not known: ***!"
