"""Visitors as they come: each writes over a real WebSocket and remembers what it was told, to compare with the log."""

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import sqlalchemy as sa

from core.store import Database, DatabaseSettings
from core.tables import Generation

_numbers = itertools.count()


@dataclass(slots=True, kw_only=True)
class Told:
    """What one visitor heard of one generation. `reason` stays None where its end was never acknowledged."""

    prompt: str
    text: str = ""
    reason: str | None = None
    error: str | None = None
    has_left: bool = False  # the visitor, before the end


@dataclass(slots=True)
class Crowd:
    """Visitors who write one text after another, and come back when the server goes away."""

    url: str
    told: list[Told] = field(default_factory=list)
    refused: int = 0  # connections

    @contextlib.asynccontextmanager
    async def writing(self, size: int, *, max_tokens: int, **asked: object) -> AsyncIterator[None]:
        """Keep `size` visitors busy for as long as the block runs, each wanting another length than the next."""
        lengths = [max_tokens // 2 + number * max_tokens // size for number in range(size)]
        tasks = [asyncio.create_task(self._come_and_come_back(asked | {"max_tokens": most})) for most in lengths]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [result for result in results if not isinstance(result, asyncio.CancelledError)]
        assert not errors, errors

    @property
    def acknowledged(self) -> list[Told]:
        """Return what was told to its end."""
        return [told for told in self.told if told.reason is not None]

    @property
    def errors(self) -> Counter[str]:
        """Return how often each error code was told."""
        return Counter(told.error for told in self.told if told.error is not None)

    @property
    def broken_off(self) -> list[Told]:
        """Return what was begun and came to no end, though its visitor waited for it."""
        return [told for told in self.told if told.text and told.reason is None and not told.has_left]

    async def _come_and_come_back(self, asked: dict[str, object]) -> None:
        told = Told(prompt="")
        while True:
            try:
                async with aiohttp.ClientSession() as session, session.ws_connect(f"{self.url}/ws") as socket:
                    while not socket.closed:
                        self.told.append(told := Told(prompt=f"Once upon a time {next(_numbers)}"))
                        await write(socket, told, **asked)
            except aiohttp.ClientConnectorError:
                self.refused += 1
            except (aiohttp.ClientError, ConnectionError):
                pass
            except asyncio.CancelledError:
                told.has_left = True
                raise
            await asyncio.sleep(0.05)


async def write(socket: aiohttp.ClientWebSocketResponse, told: Told, **asked: object) -> None:
    """Ask for one text and note what is heard, until its end, an error or the socket's end."""
    await socket.send_json({"type": "start", "id": "a", "prompt": told.prompt} | asked)
    async for frame in socket:
        message = json.loads(frame.data)
        match message["type"]:
            case "text":
                told.text += message["text"]
            case "done":
                told.reason = message["reason"]
                return
            case "error":
                told.error = message["code"]
                return


async def until(is_so: Callable[[], bool], within_s: float = 180) -> None:
    """Wait for what other tasks or processes bring about. Raises TimeoutError when they do not."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 — there is no event to wait for
            await asyncio.sleep(0.02)


async def check_log(settings: DatabaseSettings, told: list[Told], within_s: float = 0) -> None:
    """Compare the log with what visitors were told: nothing acknowledged is missing or differs, nothing is doubled."""
    deadline = asyncio.get_running_loop().time() + within_s
    while problem := _compare(await rows(settings), told):
        assert asyncio.get_running_loop().time() < deadline, problem
        await asyncio.sleep(0.5)


async def rows(settings: DatabaseSettings) -> list[Generation]:
    """Return the whole log."""
    async with Database(settings) as database, database.read() as session:
        return list(await session.scalars(sa.select(Generation)))


def _compare(rows: list[Generation], told: list[Told]) -> str | None:
    acknowledged = [one for one in told if one.reason is not None]
    assert acknowledged, "nothing was acknowledged: the test proved nothing"
    asked = {one.prompt for one in told}
    counts = Counter(row.prompt for row in rows if row.prompt in asked)
    if doubled := [prompt for prompt, count in counts.items() if count > 1]:
        return f"{len(doubled)} generations stand in the log twice: {doubled[:5]}"
    log = {row.prompt: (row.completion, row.reason) for row in rows}
    if missing := [one.prompt for one in acknowledged if one.prompt not in log]:
        return f"{len(missing)} of {len(acknowledged)} acknowledged generations are not in the log: {missing[:5]}"
    if wrong := [(one, log[one.prompt]) for one in acknowledged if log[one.prompt] != (one.text, one.reason)]:
        return f"{len(wrong)} rows differ from what was told: {wrong[:3]}"
    return None
