from __future__ import annotations

import hashlib
import itertools
import random
import string

import pytest

from app.access import keys

BASE62 = set(string.ascii_letters + string.digits)


def some_key(seed: int = 1) -> str:
    return keys.make_key(random.Random(seed).randbytes(60))


class TestMakeKey:
    def test_has_the_format(self) -> None:
        key = some_key()
        assert key.startswith("slk_")
        assert len(key) == keys.LENGTH == 4 + 30 + 6
        assert set(key.removeprefix("slk_")) <= BASE62

    def test_uses_all_the_randomness(self) -> None:
        made = {some_key(seed) for seed in range(500)}
        assert len(made) == 500
        assert {character for key in made for character in key[4:34]} == BASE62

    def test_needs_enough_of_it(self) -> None:
        with pytest.raises(ValueError, match="60 random bytes"):
            keys.make_key(bytes(59))


class TestIsWellFormed:
    def test_every_key_made_is(self) -> None:
        assert all(keys.is_well_formed(some_key(seed)) for seed in range(100))

    def test_no_key_with_one_wrong_character_is(self) -> None:
        key = some_key()
        for position, wrong in itertools.product(range(4, len(key)), "0aZ"):
            if key[position] != wrong:
                assert not keys.is_well_formed(key[:position] + wrong + key[position + 1 :])

    def test_no_key_with_two_neighbours_swapped_is(self) -> None:
        key = some_key()
        for position in range(4, len(key) - 1):
            swapped = key[:position] + key[position + 1] + key[position] + key[position + 2 :]
            assert swapped == key or not keys.is_well_formed(swapped)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "slk_",
            some_key()[:-1],
            some_key() + "0",
            some_key().replace("slk_", "sk-_"),
            some_key().upper(),
            some_key()[:-1] + "é",
            some_key()[:20] + "\0" + some_key()[21:],
        ],
    )
    def test_nothing_else_is(self, text: str) -> None:
        assert not keys.is_well_formed(text)


class TestDigest:
    def test_is_the_hash_and_not_the_key(self) -> None:
        key = some_key()
        assert keys.digest(key) == hashlib.sha256(key.encode()).digest()
