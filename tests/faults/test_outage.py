"""The database goes away under load and comes back: nobody notices, and the log is whole."""

import asyncio
from collections.abc import Callable

import pytest

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import IS_FULL
from tests.faults.visitors import Crowd, check_log, until
from tests.fixtures.databases import PostgresServer

AWAY_S = 30 if IS_FULL else 4
VISITORS = 100 if IS_FULL else 30


@pytest.mark.postgres
async def test_no_stream_fails_and_no_row_is_lost_while_postgresql_is_down(
    postgres_server: PostgresServer, new_server: Callable[..., Server]
) -> None:
    database = DatabaseSettings(url=postgres_server.new_database())
    async with new_server(database) as server:
        crowd = Crowd(server.url)
        async with crowd.writing(VISITORS, max_tokens=60, pace=30):
            await until(lambda: len(crowd.acknowledged) >= VISITORS)
            await asyncio.to_thread(postgres_server.stop)
            try:
                before = len(crowd.acknowledged)
                await asyncio.sleep(AWAY_S)
                await until(lambda: len(crowd.acknowledged) >= before + VISITORS)
                while_away = len(crowd.acknowledged) - before
            finally:
                await asyncio.to_thread(postgres_server.start)
            await until(lambda: len(crowd.acknowledged) >= before + while_away + VISITORS)
        assert not crowd.errors
        await check_log(database, crowd.told, within_s=30)
    print(
        f"away_s={AWAY_S} visitors={VISITORS} acknowledged={len(crowd.acknowledged)} of_these_while_away={while_away}"
    )
