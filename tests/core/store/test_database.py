"""The database's address and limits: where they come from, and what is made of them."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

import migrations
from core.config import Config
from core.errors import StoreError
from core.store import Database, DatabaseSettings, Store
from core.store.facts import Facts

ROOT = Path(__file__).parents[3]


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/fable")
    assert DatabaseSettings.read(Config(ROOT / "config.toml")).url == "postgresql://elsewhere/fable"
    monkeypatch.delenv("DATABASE_URL")
    assert DatabaseSettings.read(Config(ROOT / "config.toml")).url == DatabaseSettings().url


async def test_the_name_that_libpq_has_for_encryption_is_understood() -> None:
    database = Database(DatabaseSettings(url="postgresql://fable@127.0.0.1:1/fable?sslmode=require"))
    with pytest.raises(StoreError, match=r"cannot use the database .*Connect"):
        async with database, database.read() as session:
            await session.execute(sa.text("SELECT 1"))


def test_the_password_is_never_shown() -> None:
    assert str(Database(DatabaseSettings(url="postgres://fable:hunter2@db/fable"))) == (
        "postgresql+asyncpg://fable:***@db/fable"
    )


async def test_a_database_without_tables_says_how_to_make_them(empty_database: DatabaseSettings) -> None:
    with pytest.raises(StoreError, match="bring it up to date with `python -m migrations`"):
        await Store(empty_database).__aenter__()


async def test_a_second_look_at_a_file_leaves_its_commits_safe_from_other_processes(tmp_path: Path) -> None:
    settings = DatabaseSettings(url=f"sqlite:///{tmp_path}/test.sqlite3")
    count = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM words').fetchone())"

    def count_elsewhere() -> bytes:
        command = [sys.executable, "-c", count, f"{tmp_path}/test.sqlite3"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    async with Database(settings) as database:
        async with database.write() as session:
            await session.execute(sa.text("CREATE TABLE words (word TEXT)"))
        async with Database(settings) as again, again.read():
            pass
        await asyncio.to_thread(count_elsewhere)  # were the locks gone, it would believe to be the last, and clean up
        async with database.write() as session:
            await session.execute(sa.text("INSERT INTO words VALUES ('once')"))
        assert await asyncio.to_thread(count_elsewhere) == b"1\n"


async def test_reading_waits_for_no_writer_of_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/test.sqlite3"
    await migrations.upgrade(DatabaseSettings(url=url))
    writer = sqlite3.connect(tmp_path / "test.sqlite3", isolation_level=None)
    assert writer.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental
    writer.execute("BEGIN IMMEDIATE")
    async with Database(DatabaseSettings(url=url, statement_timeout_s=0.1)) as database:
        assert await Facts(database).get("anything") is None
    writer.close()


async def test_room_that_cannot_be_reclaimed_is_told_like_any_other_error(tmp_path: Path) -> None:
    settings = DatabaseSettings(url=f"sqlite:///{tmp_path}/test.sqlite3", statement_timeout_s=0.1)
    await migrations.upgrade(settings)
    other = sqlite3.connect(tmp_path / "test.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with Database(settings) as database:
        with pytest.raises(StoreError, match=r"cannot use the database .* locked"):
            await database.reclaim()
    other.close()


async def test_a_write_cancelled_at_any_moment_leaves_a_connection_to_go_on_with(
    database_settings: DatabaseSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with Database(database_settings) as opened:
        facts = Facts(opened)
        for number in range(100):
            writing = asyncio.create_task(facts.settle(f"fact {number}", "true"))
            await asyncio.sleep(number * 1e-4)
            writing.cancel()
            await asyncio.wait({writing})
        assert await facts.settle("last", "written") == "written"
    assert not [record for record in caplog.records if record.name.startswith("sqlalchemy")]
