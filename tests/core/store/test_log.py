"""A row whose `finish` returned is in the log, whatever happens next."""

import asyncio
import importlib
import itertools
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import migrations
from core.errors import StoreError
from core.store import DatabaseSettings, LogSettings, Store
from core.store.database import RowsRefusedError
from core.store.spool import Row
from core.tables import Generation, LogWriter
from tests.fixtures.databases import PostgresServer

from .conftest import generation

SMALL = LogSettings(spool_mb=1)


def plain(row: Generation) -> dict[str, object]:
    return {column.name: getattr(row, column.name) for column in Generation.__table__.columns}


async def reasons(store: Store) -> dict[str, str]:
    return {row.request_id: row.reason for row in await store.log.rows(limit=10_000)}


def failing(commit: Callable[[list[Row]], Awaitable[None]], messages: Iterable[str]) -> Callable[..., Awaitable[None]]:
    """A commit that fails once a message, then works."""
    errors = map(StoreError, messages)

    async def fail_first(rows: list[Row]) -> None:
        for error in errors:
            raise error
        await commit(rows)

    return fail_first


async def until(condition, *, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the log has no event for this, and users need none
            await asyncio.sleep(0.01)


async def test_a_finished_row_comes_back_as_it_was(store: Store) -> None:
    row = generation("a")
    await store.log.finish(row)
    (found,) = await store.log.rows()
    assert plain(found) == plain(row)


async def test_a_row_without_text_holds_none(store: Store) -> None:
    await store.log.finish(generation("a", prompt=None, completion=None, stop=None))
    async with store.database.read() as session:
        nulls = await session.scalar(sa.text("SELECT count(*) FROM generations WHERE stop IS NULL AND prompt IS NULL"))
    assert nulls == 1


async def test_finishing_a_started_row_leaves_one_row(store: Store) -> None:
    store.log.start(generation("a", reason="running"))
    await until(lambda: store.log.stats().rows == 1)
    assert await reasons(store) == {"a": "running"}
    await store.log.finish(generation("a", reason="stop"))
    assert await reasons(store) == {"a": "stop"}


async def test_rows_that_wait_together_share_a_commit(store: Store) -> None:
    await asyncio.gather(*(store.log.finish(generation(f"row {n}")) for n in range(1000)))
    assert len(await reasons(store)) == 1000
    assert store.log.stats().commits <= 5


async def test_a_caller_who_gives_up_does_not_lose_its_row(store: Store) -> None:
    finishing = asyncio.create_task(store.log.finish(generation("a")))
    await asyncio.sleep(0)
    finishing.cancel()
    await store.log.finish(generation("b"))
    assert set(await reasons(store)) == {"a", "b"}


async def test_closing_writes_what_was_queued(database_settings: DatabaseSettings) -> None:
    async with Store(database_settings, SMALL) as store:
        finishing = asyncio.create_task(store.log.finish(generation("a")))
        await asyncio.sleep(0)
    await finishing
    async with Store(database_settings, SMALL) as store:
        assert set(await reasons(store)) == {"a"}
        with pytest.raises(StoreError, match="closed"):
            await closed_log_finishes(store)


async def closed_log_finishes(store: Store) -> None:
    await store.__aexit__(None, None, None)
    await store.log.finish(generation("late"))


async def test_a_row_that_the_database_refuses_does_not_take_others_along(store: Store, caplog) -> None:
    kept = [store.log.finish(generation(name)) for name in ("a", "b")]
    refused = store.log.finish(generation("bad", prompt="a secret \ud800"))
    results = await asyncio.gather(kept[0], refused, kept[1], return_exceptions=True)
    assert [type(result) for result in results] == [type(None), RowsRefusedError, type(None)]
    assert set(await reasons(store)) == {"a", "b"}
    assert "log row refused: request_id=bad" in caplog.text
    assert "secret" not in caplog.text


async def test_running_rows_of_a_dead_writer_are_interrupted_and_those_of_a_live_one_are_not(
    database_settings: DatabaseSettings,
) -> None:
    async with Store(database_settings, SMALL) as alive:
        alive.log.start(generation("alive", reason="running", writer_id=alive.log.writer_id))
        alive.log.start(generation("dead", reason="running", writer_id="dead"))
        await until(lambda: alive.log.stats().rows == 2)
        async with Store(database_settings, SMALL) as starting:
            assert await reasons(starting) == {"alive": "running", "dead": "interrupted"}
            assert starting.log.stats().interrupted == 1
        await alive.log.finish(generation("dead", reason="length"))  # not dead after all: the row heals
        assert (await reasons(alive))["dead"] == "length"


async def test_a_writer_elsewhere_that_fell_silent_is_held_dead(store: Store) -> None:
    elsewhere = {"host": "elsewhere", "pid": 1, "started": "1"}
    now = datetime.now(UTC)
    async with store.database.write() as session:
        session.add(LogWriter(id="silent", seen_at=now - timedelta(seconds=61), **elsewhere))
        session.add(LogWriter(id="speaks", seen_at=now - timedelta(seconds=50), **elsewhere))
    await store.log.finish(generation("a", reason="running", writer_id="silent"))
    await store.log.finish(generation("b", reason="running", writer_id="speaks"))
    await store.log._presence.beat()
    assert await reasons(store) == {"a": "interrupted", "b": "running"}


async def test_a_users_generations_are_counted(store: Store) -> None:
    now = datetime.now(UTC)
    await store.log.finish(generation("old", started_at=now - timedelta(days=2)))
    await store.log.finish(generation("here", guild_key="g"))
    await store.log.finish(generation("there", guild_key="h"))
    await store.log.finish(generation("directly", guild_key=None))
    await store.log.finish(generation("another's", user_key="v"))
    yesterday = now - timedelta(days=1)
    assert await store.log.count(user_key="u", guild_key="g", since=yesterday) == 1
    assert await store.log.count(user_key="u", guild_key=None, since=yesterday) == 1


async def test_a_row_on_its_way_to_the_spool_goes_to_a_database_that_came_back_first(store: Store) -> None:
    log = store.log
    log._away_since = 1.0
    async with log._spool_lock:
        finishing = asyncio.create_task(log.finish(generation("a")))
        await until(lambda: log._spool_lock._waiters)
        log._away_since = None
    await finishing
    assert set(await reasons(store)) == {"a"}
    assert log.stats().spool_used_bytes == 0


@pytest.fixture
async def postgres_settings(postgres_server: PostgresServer, tmp_path: Path) -> DatabaseSettings:
    settings = DatabaseSettings(url=postgres_server.new_database(), folder=str(tmp_path))
    await migrations.upgrade(settings)
    return settings


@pytest.mark.postgres
async def test_rows_finished_during_an_outage_are_replayed_once_it_is_over(
    postgres_server: PostgresServer, postgres_settings: DatabaseSettings
) -> None:
    async with Store(postgres_settings, SMALL) as store:
        await store.log.finish(generation("before"))
        postgres_server.stop()
        try:
            for n in range(20):
                store.log.start(generation(f"during {n}", reason="running"))
                await store.log.finish(generation(f"during {n}"))
            stats = store.log.stats()
            assert (stats.is_database_away, stats.spooled_rows) == (True, 20)
            with pytest.raises(StoreError, match="cannot use the database"):
                await store.log.rows()
        finally:
            postgres_server.start()
        await until(lambda: not store.log.stats().is_database_away)
        await store.log.finish(generation("after"))
        assert store.log.stats().spooled_rows == 20
        assert store.log.stats().spool_used_bytes == 0
        assert set(await reasons(store)) == {"before", "after", *(f"during {n}" for n in range(20))}


@pytest.mark.postgres
async def test_a_spool_left_by_a_process_that_ended_during_an_outage_is_replayed_at_the_next_start(
    postgres_server: PostgresServer, postgres_settings: DatabaseSettings
) -> None:
    async with Store(postgres_settings, SMALL) as store:
        postgres_server.stop()
        try:
            await store.log.finish(generation("during"))
            await store.__aexit__(None, None, None)
        finally:
            postgres_server.start()
    async with Store(postgres_settings, SMALL) as store:
        assert set(await reasons(store)) == {"during"}


@pytest.mark.parametrize("is_away_again", [False, True])
async def test_a_spool_left_by_a_process_that_ended_during_an_outage_is_replayed_by_another_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_away_again: bool
) -> None:
    module = importlib.import_module("core.store.log")  # as an attribute it is hidden by a logger of that name
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    settings = DatabaseSettings(url=f"sqlite:///{tmp_path}/test.sqlite3")
    await migrations.upgrade(settings)
    async with Store(settings, SMALL) as staying:
        async with Store(settings, SMALL) as leaving:
            monkeypatch.setattr(leaving.log, "_commit", failing(leaving.log._commit, itertools.repeat("away")))
            await leaving.log.finish(generation("during"))
            (left,) = tmp_path.glob(f"spool/*-{leaving.log.writer_id}.spool")
            if is_away_again:
                monkeypatch.setattr(staying.log, "_commit", failing(staying.log._commit, ["away again"]))
        await until(lambda: not left.exists())
        assert await reasons(staying) == {"during": "length"}


@pytest.mark.postgres
async def test_new_requests_are_refused_once_the_spool_could_not_hold_their_end(
    postgres_server: PostgresServer, postgres_settings: DatabaseSettings
) -> None:
    async with Store(postgres_settings, SMALL) as store:
        postgres_server.stop()
        try:
            await store.log.finish(generation("first"))
            store.log.start(generation("fits", prompt="x" * 300_000))
            with pytest.raises(StoreError, match="the log is full: the database has been away for"):
                store.log.start(generation("too much", prompt="x" * 300_000))
            await store.log.finish(generation("fits", prompt="x" * 300_000))
        finally:
            postgres_server.start()
        await until(lambda: not store.log.stats().is_database_away)
        store.log.start(generation("too much", prompt="x" * 300_000))
        await store.log.finish(generation("too much", prompt="x" * 300_000))
        assert set(await reasons(store)) == {"first", "fits", "too much"}


async def test_a_sqlite_file_locked_too_long_is_an_outage_too(tmp_path: Path) -> None:
    settings = DatabaseSettings(url=f"sqlite:///{tmp_path}/test.sqlite3", statement_timeout_s=0.1)
    await migrations.upgrade(settings)
    async with Store(settings, SMALL) as store:
        blocker = sqlite3.connect(tmp_path / "test.sqlite3", isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(blocker.execute, "BEGIN IMMEDIATE")
        await store.log.finish(generation("during"))
        assert store.log.stats().is_database_away
        blocker.execute("COMMIT")
        blocker.close()
        await until(lambda: not store.log.stats().is_database_away)
        assert set(await reasons(store)) == {"during"}


async def test_a_role_is_one_living_process_at_a_time(store: Store, database_settings: DatabaseSettings) -> None:
    async with Store(database_settings, LogSettings(spool_mb=1)) as other:
        assert await store.log.claim("bot") is None
        assert await store.log.claim("bot") is None  # its own
        holder = await other.log.claim("bot")
        assert holder is not None
        assert (holder.id, holder.pid) == (store.log.writer_id, os.getpid())
        assert await other.log.claim("another bot") is None


async def test_a_role_is_free_once_its_process_has_left(store: Store, database_settings: DatabaseSettings) -> None:
    async with Store(database_settings, LogSettings(spool_mb=1)) as other:
        assert await other.log.claim("bot") is None
    assert await store.log.claim("bot") is None


async def test_of_those_who_claim_a_role_at_once_one_gets_it(store: Store, database_settings: DatabaseSettings) -> None:
    async with Store(database_settings, LogSettings(spool_mb=1)) as other:
        answers = await asyncio.gather(*(one.log.claim("bot") for one in (store, other)))
        assert sum(answer is None for answer in answers) == 1
