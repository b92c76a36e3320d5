"""SIGTERM under load: every stream is told how it ended, the log agrees, and the process leaves with code 0."""

import asyncio
import signal
from collections.abc import Callable

import aiohttp

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import sqlite_will_do
from tests.faults.visitors import Told, check_log, until, write

VISITORS = 50


@sqlite_will_do
async def test_sigterm_lets_short_streams_finish_and_ends_long_ones_with_a_reason(
    empty_database: DatabaseSettings, new_server: Callable[..., Server]
) -> None:
    told = [Told(prompt=f"Once upon a time {number}") for number in range(VISITORS)]
    async with new_server(empty_database, engine__shutdown_grace_s="8") as server, aiohttp.ClientSession() as session:
        sockets = [await session.ws_connect(f"{server.url}/ws") for _ in told]
        lengths = [20 if number % 2 else 1000 for number in range(VISITORS)]
        writing = asyncio.gather(
            *(
                write(socket, one, max_tokens=length, pace=20, temperature=0)
                for socket, one, length in zip(sockets, told, lengths, strict=True)
            )
        )
        await until(lambda: all(one.text for one in told))
        code = await server.end(signal.SIGTERM)
        await writing
    assert code == 0
    assert {one.reason for one in told[1::2]} <= {"length", "end"}
    assert {one.reason for one in told[::2]} <= {"shutdown", "end"}
    await check_log(empty_database, told)
