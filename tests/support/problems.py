"""What every error of the API must be."""

from __future__ import annotations

from typing import Any

import httpx2

_ALWAYS = {"type", "title", "status", "detail", "instance", "code", "request_id"}


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer that must be one, with this status and code."""
    assert answer.status_code == status, answer.text[:1000]
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document.keys() - {"errors"} == _ALWAYS
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"urn:secondlook:problem:{code}"
    assert document["title"]
    assert document["detail"]
    assert document["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert document["request_id"].startswith("req_")
    assert answer.headers.get_list("x-request-id") == [document["request_id"]]
    assert "Traceback" not in answer.text
    assert 'File "' not in answer.text
    return document


def faults(answer: httpx2.Response) -> dict[str, str]:
    """Of a 422: what is said of each field, by its pointer or name."""
    document = problem(answer, 422, "invalid")
    first = document["errors"][0]
    assert document["detail"].startswith(f"{first['pointer'].lstrip('/') or first['in']}: ")
    return {error["pointer"]: error["detail"] for error in document["errors"]}
