"""The committed OpenAPI document: `python -m tests.support.openapi_snapshot` renews it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx2

from app.main import create_app
from app.settings import Settings

SNAPSHOT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def document() -> dict[str, Any]:
    """The document as the application serves it; nothing in it comes from the settings."""
    settings = Settings(database_url="postgresql://nowhere/x", redis_url="redis://nowhere")
    made: dict[str, Any] = create_app(settings).openapi()
    return made


def as_text(document: dict[str, Any]) -> str:
    """The document as it is committed: one form for equal documents, so that diffs are small."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@lru_cache
def _routes() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    return [
        (method.upper(), re.compile(re.sub(r"{\w+}", "[^/]+", path)), operation["responses"])
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    ]


async def require_documented(answer: httpx2.Response) -> None:
    """Fails where an operation answers with a status that the document does not name.

    500 is in no document: it is a mistake, whatever the operation.
    """
    request = answer.request
    for method, path, responses in _routes():
        if request.method == method and path.fullmatch(request.url.path):
            status = str(answer.status_code)
            assert status in {*responses, "500"}, f"{method} {path.pattern}: {status}"


if __name__ == "__main__":
    SNAPSHOT.write_text(as_text(document()), encoding="utf-8")
