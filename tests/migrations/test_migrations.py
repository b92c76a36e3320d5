"""Migrations go up, down and up again, meet the tables, take turns, and leave a database whole when they fail."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

import migrations
from core.errors import ConfigError, StoreError
from core.store import Database, DatabaseSettings
from core.tables import Base

ROOT = Path(__file__).parents[2]


async def inspect(settings: DatabaseSettings, look):
    async with Database(settings) as database, database.read() as session:
        return await (await session.connection()).run_sync(look)


def table_names(connection: sa.Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names())


def differences(connection: sa.Connection) -> list[object]:
    return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


async def test_up_down_and_up_again_gives_the_tables_of_the_code(empty_database: DatabaseSettings) -> None:
    await migrations.upgrade(empty_database)
    await migrations.downgrade(empty_database, "base")
    assert await inspect(empty_database, table_names) == {"alembic_version"}
    await migrations.upgrade(empty_database)
    assert await inspect(empty_database, table_names) == {*Base.metadata.tables, "alembic_version"}
    assert await inspect(empty_database, differences) == []


async def test_upgrading_twice_changes_nothing(database_settings: DatabaseSettings) -> None:
    await migrations.upgrade(database_settings)
    assert await migrations.is_current(database_settings)


async def test_asking_whether_a_missing_file_is_current_does_not_make_it(tmp_path: Path) -> None:
    assert not await migrations.is_current(DatabaseSettings(url=f"sqlite:///{tmp_path}/folder/missing.sqlite3"))
    assert list(tmp_path.iterdir()) == []


async def test_an_empty_database_is_not_current(empty_database: DatabaseSettings) -> None:
    assert not await migrations.is_current(empty_database)


async def test_a_database_newer_than_the_program_is_refused_and_untouched(database_settings: DatabaseSettings) -> None:
    async with Database(database_settings) as database, database.write() as session:
        newest = (await session.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar_one()
        await session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=rf"is at revision 9999, this program knows up to {newest}: .* newer version"):
        await migrations.upgrade(database_settings)
    assert await inspect(database_settings, table_names) == {*Base.metadata.tables, "alembic_version"}


async def test_a_migration_that_fails_half_way_is_rolled_back(empty_database: DatabaseSettings, monkeypatch) -> None:
    def fails_half_way(config: Config, revision: str) -> None:
        connection = config.attributes["connection"]
        connection.execute(sa.text("CREATE TABLE half (id INTEGER)"))
        connection.execute(sa.text("INSERT INTO half VALUES (1)"))
        raise ZeroDivisionError("the second half")

    monkeypatch.setattr(command, "upgrade", fails_half_way)
    with pytest.raises(StoreError, match=r"cannot migrate .*the second half; nothing was changed"):
        await migrations.upgrade(empty_database)
    assert await inspect(empty_database, table_names) == set()


def test_processes_started_together_take_turns(empty_database: DatabaseSettings) -> None:
    environment = os.environ | {"DATABASE_URL": empty_database.url}
    start = [sys.executable, "-m", "migrations"]
    racing = [
        subprocess.Popen(start, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate() for process in racing]
    assert [process.returncode for process in racing] == [0] * 4, told
    assert asyncio.run(inspect(empty_database, differences)) == []


def test_the_alembic_program_is_configured_too(empty_database: DatabaseSettings) -> None:
    environment = os.environ | {"DATABASE_URL": empty_database.url}
    for arguments in (["upgrade", "head"], ["check"]):
        subprocess.run([sys.executable, "-m", "alembic", *arguments], cwd=ROOT, env=environment, check=True)


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    environment = os.environ | {"DATABASE_URL": "postgresql://fable:hunter2@127.0.0.1:1/none"}
    told = subprocess.run(
        [sys.executable, "-m", "migrations"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert told.stderr.startswith("error: cannot use the database postgresql+asyncpg://fable:***@127.0.0.1:1/none: ")
    assert "correct DATABASE_URL" in told.stderr
    assert "hunter2" not in told.stderr + told.stdout


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "must look like"),
        ("mysql://localhost/x", "must begin with sqlite or postgresql, got mysql"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
    ],
)
async def test_a_wrong_address_says_what_was_expected(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await migrations.upgrade(DatabaseSettings(url=url))


async def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot use the database sqlite"):
        await migrations.upgrade(DatabaseSettings(url=f"sqlite:///{tmp_path}"))


async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.sqlite3"
    path.write_text("Dear reader, " * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        await migrations.upgrade(DatabaseSettings(url=f"sqlite:///{path}"))
    assert path.read_text() == "Dear reader, " * 100


async def test_a_new_sqlite_file_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log.sqlite3"
    await migrations.upgrade(DatabaseSettings(url=f"sqlite:///{path}"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
