from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.content import TemplateError, fill, images_of, template_fields, text_of


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"text": "  as it is \n"}, "  as it is \n"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "user: hi"),
        ({"fields": {"b": 1, "a": "x", "c": None, "d": True}}, "a: x\nb: 1\nc: null\nd: true"),
        ({"images": [{"url": "https://x.example/1"}]}, ""),
        ({"images": [{"url": "https://x.example/1"}], "text": "which?"}, "which?"),
    ],
)
def test_text_of(content: dict[str, Any], text: str) -> None:
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{a}", "1"),
        ("{a}{b c}", "1{a}"),  # what is filled in is not filled in again
        ("{{{a}}}", "{1}"),
        ("{{a}}", "{a}"),
        ("no field", "no field"),
    ],
)
def test_fill(template: str, text: str) -> None:
    assert fill(template, {"a": 1, "b c": "{a}"}) == text


@pytest.mark.parametrize("template", ["{", "}", "a {} b", "{a", "a}", "{a{b}}"])
def test_braces_that_stand_around_no_name_are_named(template: str) -> None:
    with pytest.raises(TemplateError, match="position"):
        template_fields(template)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TemplateError, match="'b'"):
        fill("{a}{b}", {"a": 1})


@given(st.text())
def test_any_text_can_be_kept_in_a_template(text: str) -> None:
    template = text.replace("{", "{{").replace("}", "}}")
    assert template_fields(template) == ()
    assert fill(template, {}) == text


@pytest.mark.parametrize("hostile", ["{a.__class__}", "{a!r}", "{a:>10}", "{0}", "{a[0]}"])
def test_a_template_does_nothing_but_fill_in(hostile: str) -> None:
    (name,) = template_fields(hostile)
    assert fill(hostile, {name: "x", "a": "secret"}) == "x"


def test_images_are_urls() -> None:
    inline = {"base64": "AAAA", "media_type": "image/png"}
    content = {"images": [{"url": "https://x.example/1"}, inline]}
    assert images_of(content) == ("https://x.example/1", "data:image/png;base64,AAAA")
