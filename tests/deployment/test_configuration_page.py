"""docs/configuration.md says what the settings are, neither more nor less."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from app.environment import FILE, PASSWORDS, SECRETS
from app.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def rows() -> list[str]:
    """The table of the page as the settings have it."""
    schema = Settings.model_json_schema(by_alias=True)
    return [
        f"| `{name}` | {_default(name, field, schema)} | {_range(field)} | {field['description']} |"
        for name, field in schema["properties"].items()
    ]


def _default(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    if name in schema["required"]:
        return "required"
    match field.get("default"):
        case None:
            return ""
        case bool(value):
            return f"`{str(value).lower()}`"
        case float(value) if value.is_integer():
            return f"`{int(value)}`"
        case value:
            return f"`{value}`"


def _range(field: dict[str, Any]) -> str:
    kind = {**field, **field.get("anyOf", [{}])[0]}
    if kind.get("type") == "boolean":
        return "true or false"
    if "enum" in kind:
        return ", ".join(kind["enum"])
    if "maximum" not in kind:
        return ""
    if "exclusiveMinimum" in kind:
        return f"above {kind['exclusiveMinimum']:g} to {kind['maximum']}"
    return f"{kind['minimum']} to {kind['maximum']}"


def test_every_setting_has_its_row() -> None:
    written = re.findall(r"^\| `[A-Z_]+` \|.*$", PAGE.read_text(), flags=re.MULTILINE)
    table = [row for row in written if row.count("|") == 5]
    assert table == rows(), "write these rows: \n" + "\n".join(rows())


def test_every_number_has_a_range() -> None:
    properties = Settings.model_json_schema(by_alias=True)["properties"]
    numbers = {
        name: kind
        for name, field in properties.items()
        if (kind := {**field, **field.get("anyOf", [{}])[0]}).get("type") in {"integer", "number"}
    }
    assert numbers
    for name, kind in numbers.items():
        assert {"minimum", "exclusiveMinimum"} & set(kind), name
        assert "maximum" in kind, name


def test_every_secret_has_its_file_and_every_password_its_url() -> None:
    text = PAGE.read_text()
    for name in SECRETS:
        assert f"`{name}{FILE}`" in text
    for password, url in PASSWORDS.items():
        assert f"| `{password}` | `{url}` |" in text
