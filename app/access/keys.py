"""API keys: `slk_` + 30 random base62 characters + 6 that check them (GitHub's token format)."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from dataclasses import dataclass
from enum import StrEnum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "slk_"
RANDOM_LENGTH = 30
CHECK_LENGTH = 6
LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECK_LENGTH
SHOWN_LENGTH = len(PREFIX) + 6


class Scope(StrEnum):
    """What a key may do. ADMIN may do everything."""

    ADMIN = "admin"
    INGEST = "ingest"
    REVIEWER = "reviewer"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key with its scopes, its projects (None: all) and the reviewer it speaks for."""

    key_id: uuid.UUID
    scopes: frozenset[Scope]
    project_ids: frozenset[uuid.UUID] | None
    reviewer: str

    def has(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, project_id: uuid.UUID) -> bool:
        return self.project_ids is None or project_id in self.project_ids


def _checksum(random_part: str) -> str:
    number = zlib.crc32(random_part.encode("ascii"))
    digits = []
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def make_key(random_bytes: bytes) -> str:
    """A key from at least 60 random bytes, two a character.

    Two bytes a character, so that no character is likelier than another by more than 1 in 1,000.

    Raises:
        ValueError: fewer than 60 bytes.
    """
    if len(random_bytes) < 2 * RANDOM_LENGTH:
        raise ValueError("a key needs 60 random bytes")
    pairs = zip(random_bytes[0::2], random_bytes[1::2], strict=False)
    part = "".join(_ALPHABET[(high << 8 | low) % len(_ALPHABET)] for high, low in pairs)
    part = part[:RANDOM_LENGTH]
    return f"{PREFIX}{part}{_checksum(part)}"


def is_well_formed(key: str) -> bool:
    """Whether a text is a key that was not mistyped; says nothing of whether it exists."""
    if len(key) != LENGTH or not key.startswith(PREFIX) or not key.isascii():
        return False
    body = key[len(PREFIX) :]
    return _checksum(body[:RANDOM_LENGTH]) == body[RANDOM_LENGTH:]


def digest(key: str) -> bytes:
    """What is stored in place of a key."""
    return hashlib.sha256(key.encode("ascii")).digest()
