"""Questions answered together: none waits for company, none suffers for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.infra.together import Together


class AwayError(Exception):
    """Would be the same for everybody."""


class Answering:
    """Answers with the question's double, when it is let."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, list[int]]] = []
        self.let = asyncio.Event()
        self.bad: set[int] = set()
        self.away = False

    async def __call__(self, key: str, questions: Sequence[int]) -> list[int]:
        self.turns.append((key, list(questions)))
        await self.let.wait()
        if self.away:
            raise AwayError
        if bad := self.bad & set(questions):
            raise ValueError(f"{min(bad)} is bad")
        return [2 * each for each in questions]


@pytest.fixture
def answering() -> Answering:
    return Answering()


def together(
    answering: Answering, *, at_once: int = 1, at_most: int = 10
) -> Together[str, int, int]:
    return Together(
        answering,
        at_most=at_most,
        at_once=at_once,
        concerns_all=lambda error: isinstance(error, AwayError),
    )


async def asked(
    asking: Together[str, int, int], questions: Sequence[int], *, key: str = "k"
) -> list[asyncio.Task[int]]:
    """Each asked after the one before it has got under way."""
    tasks = []
    for question in questions:
        tasks.append(asyncio.create_task(asking.ask(key, question)))
        for _ in range(5):
            await asyncio.sleep(0)
    return tasks


class TestWhoGoesTogether:
    async def test_the_first_goes_at_once_and_what_comes_meanwhile_next(
        self, answering: Answering
    ) -> None:
        tasks = await asked(together(answering), [1, 2, 3, 4])
        assert answering.turns == [("k", [1])]
        answering.let.set()
        assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
        assert answering.turns == [("k", [1]), ("k", [2, 3, 4])]

    async def test_no_more_than_allowed(self, answering: Answering) -> None:
        tasks = await asked(together(answering, at_most=2), [1, 2, 3, 4, 5, 6])
        answering.let.set()
        assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12]
        assert [turn for _, turn in answering.turns] == [[1], [2, 3], [4, 5], [6]]

    async def test_as_many_turns_at_once_as_allowed(self, answering: Answering) -> None:
        tasks = await asked(together(answering, at_once=2), [1, 2, 3, 4])
        assert [turn for _, turn in answering.turns] == [[1], [2]]
        answering.let.set()
        assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
        assert [turn for _, turn in answering.turns] == [[1], [2], [3, 4]]

    async def test_those_of_another_key_do_not_wait(self, answering: Answering) -> None:
        asking = together(answering)
        tasks = [*await asked(asking, [1, 2], key="a"), *await asked(asking, [3], key="b")]
        assert answering.turns == [("a", [1]), ("b", [3])]
        answering.let.set()
        assert await asyncio.gather(*tasks) == [2, 4, 6]

    async def test_nothing_is_kept_of_a_key_that_is_done(self, answering: Answering) -> None:
        asking = together(answering)
        answering.let.set()
        assert await asking.ask("a", 1) == 2
        await asyncio.sleep(0)
        assert not asking._waiting
        assert not asking._turns
        assert await asking.ask("a", 2) == 4


class TestWhoHangsUp:
    async def test_while_waiting_is_not_asked_for(self, answering: Answering) -> None:
        first, second, third = await asked(together(answering), [1, 2, 3])
        second.cancel()
        await asyncio.sleep(0)
        answering.let.set()
        assert (await first, await third) == (2, 6)
        assert [turn for _, turn in answering.turns] == [[1], [3]]

    async def test_while_it_is_answered_leaves_the_others_their_answers(
        self, answering: Answering
    ) -> None:
        first, second, third = await asked(together(answering, at_once=2), [1, 2, 3])
        second.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        answering.let.set()
        assert (await first, await third) == (2, 6)
        assert [turn for _, turn in answering.turns] == [[1], [2], [3]]
        assert second.cancelled()


class TestFailures:
    async def test_of_one_are_its_own(self, answering: Answering) -> None:
        answering.bad = {3}
        tasks = await asked(together(answering), [1, 2, 3, 4])
        answering.let.set()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert list(map(str, got)) == ["2", "4", "3 is bad", "8"]
        assert [turn for _, turn in answering.turns] == [[1], [2, 3, 4], [2], [3], [4]]

    async def test_that_concern_all_are_told_to_all_at_once(self, answering: Answering) -> None:
        answering.away = True
        tasks = await asked(together(answering), [1, 2, 3])
        answering.let.set()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in got] == [AwayError] * 3
        assert [turn for _, turn in answering.turns] == [[1], [2, 3]]

    async def test_do_not_stop_what_comes_after(self, answering: Answering) -> None:
        asking = together(answering)
        answering.bad = {1}
        answering.let.set()
        with pytest.raises(ValueError, match="1 is bad"):
            await asking.ask("k", 1)
        assert await asking.ask("k", 2) == 4
