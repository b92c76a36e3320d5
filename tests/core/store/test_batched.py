"""A crowd shares its queries, and an error reaches everybody who asked, once."""

import asyncio

import pytest

from core.store.batched import Batched


class Library:
    """Answers with the doubled key, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.queries: list[list[int]] = []
        self.is_closed = False

    async def load(self, keys: list[int]) -> dict[int, int]:
        self.queries.append(keys)
        await asyncio.sleep(0)
        if self.is_closed:
            raise LookupError("closed")
        return {key: 2 * key for key in keys}


async def test_questions_asked_during_a_query_share_the_next_one() -> None:
    library = Library()
    batched = Batched(library.load)
    first = asyncio.create_task(batched.ask(1))
    while not library.queries:  # noqa: ASYNC110 - a turn of the loop at a time
        await asyncio.sleep(0)
    assert await asyncio.gather(first, *(batched.ask(key) for key in (2, 3, 3, 1))) == [2, 4, 6, 6, 2]
    assert library.queries == [[1], [2, 3, 1]]


async def test_a_very_large_crowd_is_served_in_several_queries() -> None:
    library = Library()
    batched = Batched(library.load)
    assert await asyncio.gather(*(batched.ask(key) for key in range(1100))) == [2 * key for key in range(1100)]
    assert [len(query) for query in library.queries] == [500, 500, 100]


async def test_an_error_reaches_everybody_and_the_next_question_is_asked_anew() -> None:
    library = Library()
    batched = Batched(library.load)
    library.is_closed = True
    told = await asyncio.gather(batched.ask(1), batched.ask(2), return_exceptions=True)
    assert [str(error) for error in told] == ["closed", "closed"]
    library.is_closed = False
    assert await batched.ask(1) == 2


async def test_one_who_gives_up_leaves_the_answer_to_the_others() -> None:
    batched = Batched(Library().load)
    impatient, patient = asyncio.create_task(batched.ask(1)), asyncio.create_task(batched.ask(1))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert await patient == 2
