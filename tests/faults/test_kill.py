"""kill -9 in mid-stream, again and again: what was acknowledged is in the log, once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import IS_FULL
from tests.faults.visitors import Crowd, check_log, rows, until

KILLS = 50 if IS_FULL else 2
VISITORS = 40 if IS_FULL else 20


async def test_no_acknowledged_generation_is_lost_or_doubled_by_kill_9(
    empty_database: DatabaseSettings, new_server: Callable[..., Server]
) -> None:
    server = new_server(empty_database)
    crowd = Crowd(server.url)
    chance = random.Random(7)
    try:
        async with crowd.writing(VISITORS, max_tokens=30, pace=100):
            for _ in range(KILLS):
                await server.start()
                enough = len(crowd.acknowledged) + chance.randint(VISITORS // 2, VISITORS)
                await until(lambda enough=enough: len(crowd.acknowledged) >= enough)
                await asyncio.sleep(chance.random() * 0.3)
                await server.kill()
    finally:
        await server.kill()
    async with server:  # the next start marks what the last kill interrupted
        pass
    await check_log(empty_database, crowd.told)
    reasons = Counter(row.reason for row in await rows(empty_database))
    print(f"kills={KILLS} acknowledged={len(crowd.acknowledged)} log={dict(reasons)}")
    assert reasons["interrupted"] > 0
    assert reasons["running"] == 0
