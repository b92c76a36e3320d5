"""Two servers on one database: they migrate it together, log side by side, and one outlives the other."""

import asyncio
from collections.abc import Callable

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import postgresql_will_do
from tests.faults.visitors import Crowd, check_log, rows, until

VISITORS = 20


@postgresql_will_do
async def test_two_servers_share_a_database_and_one_outlives_the_other(
    empty_database: DatabaseSettings, new_server: Callable[..., Server]
) -> None:
    first, second = (new_server(empty_database, web__handover_socket=f"data/{number}.sock") for number in (1, 2))
    crowds = [Crowd(server.url) for server in (first, second)]
    try:
        await asyncio.gather(first.start(), second.start())  # on a database with nothing in it
        async with crowds[0].writing(VISITORS, max_tokens=40), crowds[1].writing(VISITORS, max_tokens=40):
            await until(lambda: all(len(crowd.acknowledged) >= 2 * VISITORS for crowd in crowds))
            await first.kill()
            enough = len(crowds[1].acknowledged) + 2 * VISITORS
            await until(lambda: len(crowds[1].acknowledged) >= enough)
        assert not crowds[0].errors + crowds[1].errors
        await check_log(empty_database, crowds[0].told + crowds[1].told, within_s=15)
        await _until_nothing_runs(empty_database)  # the survivor marks what the dead one left
    finally:
        await asyncio.gather(first.kill(), second.kill())


async def _until_nothing_runs(database: DatabaseSettings) -> None:
    async with asyncio.timeout(120):
        while any(row.reason == "running" for row in await rows(database)):  # noqa: ASYNC110 — it is announced nowhere
            await asyncio.sleep(0.5)
