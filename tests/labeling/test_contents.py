"""Items of every form, from the request that brings them to the request that a model sees."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.labeling.support import Stage

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
INLINE = {"base64": base64.b64encode(PNG).decode(), "media_type": "image/png"}
URL = {"url": "https://images.example/cat.png"}


async def asked(stage: Stage, content: dict[str, Any], **labeler: Any) -> Any:
    """What the model was told of an item of this content."""
    project = await stage.api.make_project(labeler={"source": "logprobs", **labeler})
    answer = await stage.api.http.post(f"/v1/projects/{project}/items", json=content)
    assert answer.status_code == 201, answer.text
    assert answer.json()["content"] == content
    assert (await stage.labeling.drain(project)).settled == 1
    if not stage.model.calls:
        return (await stage.item(answer.json()["id"]))["confidence"]
    return stage.model.calls[-1].body["messages"][1]["content"]


async def test_fields_stand_in_the_template(stage: Stage) -> None:
    fields = {"subject": "Hi {you}", "length": 3, "seen": None}
    told = await asked(stage, {"fields": fields}, template="{subject} ({length}) {{{seen}}}")
    assert told == "<item>\nHi {you} (3) {null}\n</item>"


async def test_fields_without_a_template_are_a_line_each(stage: Stage) -> None:
    told = await asked(stage, {"fields": {"subject": "Hi", "read": False}})
    assert told == "<item>\nread: false\nsubject: Hi\n</item>"


async def test_an_item_without_a_field_of_the_template_goes_to_people_and_says_so(
    stage: Stage,
) -> None:
    confidence = await asked(stage, {"fields": {"body": "x"}}, template="{subject}")
    assert confidence == {"value": None, "source": None, "reason": "item_unfit"}


async def test_an_item_without_text_has_no_places_in_it(stage: Stage) -> None:
    spans = {"kind": "spans", "labels": ["person"]}
    project = await stage.api.make_project(label_schema=spans, policy={"kind": "accept_all"})
    content = {"images": [URL]}
    sent = await stage.api.http.post(f"/v1/projects/{project}/items", json=content)
    await stage.labeling.drain(project)
    shown = await stage.item(sent.json()["id"])
    assert (shown["state"], shown["confidence"]["reason"]) == ("in_review", "item_unfit")
    assert "no text" in shown["last_error"]


@pytest.mark.parametrize("interface", ["chat_completions", "responses"])
async def test_images_are_passed_on_and_never_fetched(stage: Stage, interface: str) -> None:
    told = await previewed(stage, interface)
    data = f"data:image/png;base64,{INLINE['base64']}"
    if interface == "chat_completions":
        assert told[0]["text"] == "<item>\na cat?\n</item>"
        assert [part["image_url"]["url"] for part in told[1:]] == [URL["url"], data]
    else:
        assert [part["image_url"] for part in told[1:]] == [URL["url"], data]


async def previewed(stage: Stage, interface: str) -> Any:
    project = await stage.api.make_project(labeler={"source": "logprobs", "api": interface})
    content = {"images": [URL, INLINE], "text": "a cat?"}
    labeler = (await stage.api.get(f"/v1/projects/{project}"))["labeler"]["id"]
    answer = await stage.api.http.post(f"/v1/labelers/{labeler}/preview", json={"item": content})
    assert answer.status_code == 200, answer.text
    body = answer.json()["body"]
    return (body["messages"] if interface == "chat_completions" else body["input"])[1]["content"]


@pytest.mark.parametrize(
    ("content", "pointer", "detail"),
    [
        ({"images": []}, "/images", ""),
        ({"images": [{}]}, "/images/0", "must have either `url` or `base64`"),
        ({"images": [{**URL, **INLINE}]}, "/images/0", "must have either `url` or `base64`"),
        ({"images": [{"base64": "x"}]}, "/images/0", "`base64` needs `media_type`"),
        (
            {"images": [{"base64": "!", "media_type": "image/png"}]},
            "/images/0",
            "`base64` is no base64",
        ),
        (
            {"images": [{**INLINE, "media_type": "image/gif"}]},
            "/images/0",
            "`base64` is not of its `media_type`",
        ),
        ({"images": [{"url": "file:///etc/passwd"}]}, "/images/0/url", "must be an http or https"),
        (
            {
                "images": [
                    {
                        "base64": base64.b64encode(PNG + bytes(1024 * 1024)).decode(),
                        "media_type": "image/png",
                    }
                ]
            },
            "/images",
            "at most 1048576 fit",
        ),
        ({"images": [URL], "messages": []}, "/messages", ""),
        ({"fields": {}}, "/fields", "must name at least one field"),
        ({"fields": {"a": [1]}}, "/fields", "no string, number, boolean or null"),
        ({"fields": {"{": 1}}, "/fields", "whose name is empty or has a brace"),
        ({"text": "x", "fields": {"a": 1}}, "", "must have one of"),
    ],
)
async def test_a_bad_content_is_named(
    stage: Stage, content: dict[str, Any], pointer: str, detail: str
) -> None:
    project = await stage.api.make_project()
    answer = await stage.api.http.post(f"/v1/projects/{project}/items", json=content)
    assert answer.status_code == 422
    found = {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}
    assert pointer in found, found
    assert detail in found[pointer]
