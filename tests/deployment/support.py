"""The deployment's files, read as the programs read them that nobody has here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"


@cache
def compose() -> dict[str, Any]:
    """The compose file with its anchors resolved; `${…}` and `$$` stand as they are."""
    read: dict[str, Any] = YAML(typ="safe", pure=True).load(COMPOSE.read_text())
    return read


def services() -> dict[str, dict[str, Any]]:
    """The services by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    image = services()["migrate"]["image"]
    return {name: each for name, each in services().items() if each["image"] == image}


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """A text of the compose file as the container gets it: `${NAME:-default}` and `$$`."""

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        return variables.get(match["name"]) or match["default"]

    return re.sub(
        r"(?P<escaped>\$\$)|\$\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\}|\$(?=[A-Za-z({])",
        lambda match: value(match) if match[0] != "$" else _unknown(text),
        text,
    )


def _unknown(text: str) -> str:
    raise AssertionError(f"compose would put a variable here that has no default: {text}")


@dataclass(frozen=True)
class Stage:
    """One stage of the Dockerfile.

    Attributes:
        name: what it is called.
        base: what it is built from, its arguments resolved.
        steps: its instructions in order, each with its value, continuation lines joined.
    """

    name: str
    base: str
    steps: tuple[tuple[str, str], ...]

    def values(self, instruction: str) -> list[str]:
        """The values of every such instruction."""
        return [value for name, value in self.steps if name == instruction]

    def value(self, instruction: str) -> str:
        """The value of the only such instruction."""
        (only,) = self.values(instruction)
        return only

    def environment(self) -> dict[str, str]:
        """What its ENV instructions set."""
        pairs = (pair for value in self.values("ENV") for pair in value.split())
        return dict(pair.split("=", 1) for pair in pairs)


@cache
def stages() -> tuple[Stage, ...]:
    """The stages of the Dockerfile in order."""
    # reading only; without a file object the parser would write beside the checkout
    with DOCKERFILE.open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    arguments: dict[str, str] = {}
    found: list[tuple[str, str, list[tuple[str, str]]]] = []
    for step in structure:
        name, value = step["instruction"], step["value"]
        if name == "FROM":
            base, _, alias = re.split(r"\s+(as)\s+", value, flags=re.IGNORECASE)
            base = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base)
            found.append((alias, base, []))
        elif found and name != "COMMENT":
            found[-1][2].append((name, value))
        elif name == "ARG":
            key, _, default = value.partition("=")
            arguments[key] = default
    return tuple(Stage(name, base, tuple(steps)) for name, base, steps in found)


def copied() -> list[str]:
    """The paths of the checkout that the Dockerfile copies into the image."""
    sources: list[str] = []
    for stage in stages():
        for value in stage.values("COPY"):
            if not value.startswith("--from="):
                sources += value.split()[:-1]
    return sources


def in_build_context(path: str) -> bool:
    """Whether .dockerignore lets a path of the checkout into the build: the last match decides."""
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        again = pattern.startswith("!")
        if any(_matches(pattern.removeprefix("!"), part) for part in _upwards(path)):
            included = again
    return included


def _upwards(path: str) -> Iterator[str]:
    """The path and the folders it is in: a pattern that matches a folder matches all in it."""
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(len(parts), 0, -1))


def _matches(pattern: str, path: str) -> bool:
    wanted, given = pattern.strip("/").split("/"), path.split("/")
    return _segments_match(wanted, given)


def _segments_match(wanted: Sequence[str], given: Sequence[str]) -> bool:
    if not wanted:
        return not given
    if wanted[0] == "**":
        return any(_segments_match(wanted[1:], given[skip:]) for skip in range(len(given) + 1))
    return (
        bool(given)
        and re.fullmatch(translate(wanted[0]), given[0]) is not None
        and _segments_match(wanted[1:], given[1:])
    )
