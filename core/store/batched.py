"""Questions asked while a query runs share the next one: a crowd that comes at once costs a query, not a thousand."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Answer = TypeVar("Answer")

_MOST = 500  # keys a query


class Batched(Generic[Key, Answer]):
    """Asks `load`, which must answer every key that it is given."""

    def __init__(self, load: Callable[[list[Key]], Awaitable[dict[Key, Answer]]]) -> None:
        self._load = load
        self._asked: dict[Key, asyncio.Future[Answer]] = {}  # for the next query
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, key: Key) -> Answer:
        """Return the answer for one key. Raises what `load` raises."""
        answer = self._asked.setdefault(key, asyncio.get_running_loop().create_future())
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer(), name="store-query")
        return await asyncio.shield(answer)  # others may wait for it too

    async def _answer(self) -> None:
        while self._asked:
            keys = list(self._asked)[:_MOST]
            answers = {key: self._asked.pop(key) for key in keys}
            try:
                found = await self._load(keys)
            except Exception as error:
                for answer in answers.values():
                    answer.set_exception(error)
                    answer.exception()  # whoever asked may be gone
            else:
                for key, answer in answers.items():
                    answer.set_result(found[key])
        self._answering = None
