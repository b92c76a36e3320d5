"""SQLite that cannot be written: the log carries on in the spool, and says plainly what to do at a start."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

import migrations
from core.errors import StoreError
from core.store import DatabaseSettings, LogSettings, Store

from .conftest import generation

SMALL = LogSettings(spool_mb=1)


@pytest.fixture
async def settings(tmp_path: Path) -> DatabaseSettings:
    settings = DatabaseSettings(url=f"sqlite:///{tmp_path}/test.sqlite3")
    await migrations.upgrade(settings)
    return settings


def listen(store: Store) -> list[str]:
    """Return the commands that every connection of a store is given before each use."""
    commands: list[str] = []

    def tell(connection, *_) -> None:
        cursor = connection.cursor()
        for command in commands:
            cursor.execute(command)
        cursor.close()

    sa.event.listen(store.database._database.sync_engine, "checkout", tell)
    return commands


@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"),
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
    ],
    ids=["full disk", "read-only"],
)
async def test_rows_wait_in_the_spool_until_the_file_can_be_written_again(
    settings: DatabaseSettings, breaks: str, mends: str
) -> None:
    store = Store(settings, SMALL)
    commands = listen(store)
    async with store:
        await store.log.finish(generation("before"))
        commands[:] = [breaks]
        for n in range(5):
            await store.log.finish(generation(f"during {n}", prompt="x" * 50_000))
        assert store.log.stats().is_database_away
        assert [row.request_id for row in await store.log.rows()] == ["before"]  # reading goes on
        commands[:] = [mends]
        async with asyncio.timeout(20):
            while store.log.stats().is_database_away:  # noqa: ASYNC110 - polls the log
                await asyncio.sleep(0.01)
        assert {row.request_id for row in await store.log.rows()} == {"before", *(f"during {n}" for n in range(5))}


async def test_a_disk_without_room_for_the_spool_is_told_at_the_start(settings: DatabaseSettings) -> None:
    with pytest.raises(StoreError, match=r"cannot make the spool .*\.spool of 1099511627776000 bytes: "):
        await Store(settings, LogSettings(spool_mb=2**20 * 1000)).__aenter__()


async def test_a_start_without_room_leaves_no_half_made_spool(settings: DatabaseSettings, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        await Store(settings, LogSettings(spool_mb=2**20 * 1000)).__aenter__()
    assert list((tmp_path / "spool").iterdir()) == []
