"""Load that does not stop: the server's memory stays where it was."""

import asyncio
from collections.abc import Callable

import psutil

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import IS_FULL, sqlite_will_do
from tests.faults.visitors import Crowd, check_log, until

WARM_UP = 300  # generations, after which allocators and caches have most of what they will ever take
SETTLE_S = 120 if IS_FULL else 0
SOAK_S = 600 if IS_FULL else 6
MOST_GROWTH = 0.02 if IS_FULL else 0.05  # the first seconds after the warm-up are the steepest


@sqlite_will_do
async def test_memory_stays_flat_under_load(
    database_settings: DatabaseSettings, new_server: Callable[..., Server]
) -> None:
    async with new_server(database_settings, engine__state_cache_mb="4") as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        crowd = Crowd(server.url)
        async with crowd.writing(50, max_tokens=60, pace=60):
            await until(lambda: len(crowd.acknowledged) > WARM_UP)
            await asyncio.sleep(SETTLE_S)
            before_bytes = await _typical_bytes(process)
            await asyncio.sleep(SOAK_S)
            after_bytes = await _typical_bytes(process)
        assert not crowd.errors
        await check_log(database_settings, crowd.told, within_s=5)
    growth = after_bytes / before_bytes - 1
    print(f"soak_s={SOAK_S} generations={len(crowd.acknowledged)} growth={growth:+.2%} mb={after_bytes / 2**20:.0f}")
    assert growth < MOST_GROWTH


async def _typical_bytes(process: psutil.Process) -> int:
    """Return the middle of several looks, so that one batch in flight does not count."""
    looks = []
    for _ in range(9):
        looks.append(process.memory_info().rss)
        await asyncio.sleep(0.2)
    return sorted(looks)[4]
