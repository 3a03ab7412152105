"""What is sent for an item, interface by interface and source by source; nothing is sent here."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain import prompting
from app.domain.confidence import ConfidenceSource as Source
from app.domain.kinds import parse_schema
from app.domain.kinds.base import LabelSchema
from app.labeling.question import Question, build_question
from app.labeling.way import Api, Structured, Way

SINGLE = parse_schema(
    {"kind": "single_choice", "labels": ["spam", {"name": "ham", "description": "no spam"}]}
)
MULTI = parse_schema({"kind": "multi_choice", "labels": ["spam", "ham"]})
TEXT = parse_schema({"kind": "text", "description": "a summary"})
LABELER: dict[str, Any] = {
    "model": "some-model",
    "instructions": "Mind the tone.",
    "parameters": {"temperature": 0.0, "top_logprobs": 20},
    "template": None,
    "examples": [{"content": {"text": "Buy now"}, "value": "spam"}],
}
PICTURE = {"images": [{"url": "https://example.org/a.png"}], "text": "a caption"}


def question(way: Way | None = None, schema: LabelSchema = SINGLE, **labeler: Any) -> Question:
    examples = LABELER["examples"] if schema is SINGLE else []
    row = {**LABELER, "examples": examples, **labeler}
    return build_question(row, schema=schema, way=way or Way())


def body(asked: Question, content: dict[str, Any] | None = None) -> dict[str, Any]:
    request = asked.request(asked.prompt(content or {"text": "Hello"}))
    assert request.path == asked.way.api.path
    assert request.body["model"] == "some-model"
    return request.body


class TestChatCompletions:
    def test_asks_for_the_schema_and_log_probabilities(self) -> None:
        sent = body(question())
        assert sent["response_format"]["json_schema"] == {
            "name": "label",
            "strict": True,
            "schema": SINGLE.answer_schema(),
        }
        assert (sent["logprobs"], sent["top_logprobs"], sent["temperature"]) == (True, 20, 0.0)
        system, user = sent["messages"]
        assert "Mind the tone." in system["content"]
        assert "Buy now\n</item>\n" + SINGLE.answer("spam") in system["content"]
        assert user == {"role": "user", "content": "<item>\nHello\n</item>"}

    def test_sends_images_by_their_url(self) -> None:
        _, user = body(question(), PICTURE)["messages"]
        assert user["content"] == [
            {"type": "text", "text": "<item>\na caption\n</item>"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ]

    def test_leaves_free_text_without_structure(self) -> None:
        assert "response_format" not in body(question(schema=TEXT))

    @pytest.mark.parametrize(
        ("structured", "sent"),
        [(Structured.JSON_OBJECT, {"type": "json_object"}), (Structured.NONE, None)],
    )
    def test_tells_the_form_as_the_server_bears_it(
        self, structured: Structured, sent: dict[str, str] | None
    ) -> None:
        assert body(question(Way(structured=structured))).get("response_format") == sent

    def test_leaves_out_what_the_server_refuses(self) -> None:
        parameters = {"temperature": 0.0, "top_logprobs": 20, "max_tokens": 9}
        way = Way(without=frozenset({"logprobs", "temperature", "max_tokens"}))
        sent = body(question(way, parameters=parameters))
        assert not {"logprobs", "top_logprobs", "temperature", "max_tokens"} & set(sent)
        assert sent["max_completion_tokens"] == 9
        assert body(question(Way(top_logprobs=5)))["top_logprobs"] == 5
        fewer = question(Way(top_logprobs=5), parameters={"top_logprobs": 3})
        assert body(fewer)["top_logprobs"] == 3


class TestResponses:
    def test_asks_for_the_same_in_its_own_words(self) -> None:
        parameters = {
            "temperature": 0.0,
            "top_logprobs": 7,
            "max_tokens": 50,
            "reasoning_effort": "low",
        }
        sent = body(question(Way(api=Api.RESPONSES), parameters=parameters))
        system, user = sent.pop("input")
        assert system["role"] == "system"
        assert user == {"role": "user", "content": "<item>\nHello\n</item>"}
        assert sent == {
            "model": "some-model",
            "temperature": 0.0,
            "store": False,
            "include": ["message.output_text.logprobs"],
            "top_logprobs": 7,
            "max_output_tokens": 50,
            "reasoning": {"effort": "low"},
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "label",
                    "strict": True,
                    "schema": SINGLE.answer_schema(),
                }
            },
        }

    def test_sends_images_and_repairs_as_its_own_turns(self) -> None:
        asked = question(Way(api=Api.RESPONSES))
        repair = prompting.build_repair(asked.prompt(PICTURE), "spam!", schema=asked.asks)
        _, user, assistant, again = asked.request(repair).body["input"]
        assert user["content"] == [
            {"type": "input_text", "text": "<item>\na caption\n</item>"},
            {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
        ]
        assert assistant == {"role": "assistant", "content": "spam!"}
        assert again == {"role": "user", "content": SINGLE.repair}

    def test_leaves_out_what_the_server_refuses(self) -> None:
        way = Way(api=Api.RESPONSES, without=frozenset({"store", "logprobs"}))
        sent = body(question(way))
        assert not {"store", "include", "top_logprobs"} & set(sent)
        assert "text" not in body(question(Way(api=Api.RESPONSES, structured=Structured.NONE)))


class TestDecisions:
    WAY = Way(Source.DECISIONS, Api.DECISIONS)

    def test_asks_one_choice_of_a_label(self) -> None:
        sent = body(question(self.WAY))
        (asked,) = sent["questions"]
        assert asked["type"] == "choice"
        assert asked["choices"] == [
            {"value": "spam"},
            {"value": "ham", "description": "no spam"},
        ]
        system, user = sent["input"]
        # the questions say what may be answered; the prompt does not say it again
        assert "JSON" not in system["content"].replace(SINGLE.answer("spam"), "")
        assert "Mind the tone." in system["content"]
        assert user["content"] == "<item>\nHello\n</item>"
        assert set(sent) == {"model", "input", "questions"}

    def test_asks_one_statement_a_label_that_may_apply(self) -> None:
        asked = body(question(self.WAY, MULTI))["questions"]
        assert [(each["type"], each["name"]) for each in asked] == [
            ("predicate", "spam"),
            ("predicate", "ham"),
        ]
        assert all(each["instructions"] for each in asked)

    def test_sends_images(self) -> None:
        _, user = body(question(self.WAY), PICTURE)["input"]
        assert [part["type"] for part in user["content"]] == ["input_text", "input_image"]

    @pytest.mark.parametrize(("kind", "most"), [("single_choice", 255), ("multi_choice", 400)])
    def test_fit_no_more_labels_than_the_interface_takes(self, kind: str, most: int) -> None:
        def questions(count: int) -> Any:
            labels = [f"label {n}" for n in range(count)]
            return parse_schema({"kind": kind, "labels": labels}).decision_questions()

        assert questions(most) is not None
        assert questions(most + 1) is None

    def test_do_not_fit_a_text(self) -> None:
        with pytest.raises(ValueError, match="do not fit"):
            question(self.WAY, TEXT)


class TestSeveralAnswers:
    WAY = Way(Source.SELF_CONSISTENCY)

    @pytest.mark.parametrize(
        ("parameters", "temperature"),
        [({"temperature": 0.0}, 0.7), ({"temperature": 1.5}, 1.5), ({}, None)],
    )
    def test_are_asked_at_a_temperature(
        self, parameters: dict[str, Any], temperature: float | None
    ) -> None:
        sent = body(question(self.WAY, parameters={**parameters, "votes": 3, "top_logprobs": 20}))
        assert sent.get("temperature") == temperature
        assert not {"votes", "logprobs", "top_logprobs"} & set(sent)

    def test_are_as_many_as_the_labeler_says(self) -> None:
        assert question(self.WAY).votes == 5
        assert question(self.WAY, parameters={"votes": 9}).votes == 9
        assert question(parameters={"votes": 9}).votes == 1

    def test_have_seeds_of_their_own(self) -> None:
        asked = question(self.WAY, parameters={"seed": 7})
        prompt = asked.prompt({"text": "Hello"})
        assert [asked.request(prompt, draw=draw).body["seed"] for draw in range(3)] == [7, 8, 9]


class TestAStatedConfidence:
    WAY = Way(Source.VERBALIZED)

    def test_is_asked_for_around_the_answer(self) -> None:
        sent = body(question(self.WAY))
        schema = sent["response_format"]["json_schema"]["schema"]
        assert schema["properties"] == {
            "answer": SINGLE.answer_schema(),
            "confidence": {"type": "number"},
        }
        assert schema["required"] == ["answer", "confidence"]
        system = sent["messages"][0]["content"]
        assert "probability that the answer is right" in system
        # an example teaches the form and no confidence
        assert '{"answer": {"label": "spam"}, "confidence": …}' in system
        assert "logprobs" not in sent

    def test_gives_a_text_a_form_too(self) -> None:
        sent = body(question(self.WAY, TEXT))
        schema = sent["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["answer"] == {"type": "string"}


def test_a_template_says_how_fields_are_asked_about() -> None:
    asked = question(template="Subject: {subject}")
    sent = body(asked, {"fields": {"subject": "Hi", "other": 1}})
    assert sent["messages"][1]["content"] == "<item>\nSubject: Hi\n</item>"
