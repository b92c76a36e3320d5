"""Opaque keys: stable, apart from each other, and only ever made with the secret the database knows."""

import re
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.errors import ConfigError
from core.store import Database, DatabaseSettings, OpaqueKeys, Store
from core.store.opaque import FILE, VARIABLE

from .conftest import generation

PRIVACY = Path(__file__).parents[3] / "docs" / "privacy.md"


def test_a_key_is_the_hmac_of_kind_and_id() -> None:
    # printf 'user:1234' | openssl dgst -sha256 -hmac 'a secret of tests'
    expected = "9f0336909187411e0b8ae3a5cdd360089c7fff9c72ac95a2b258a4da78f6ff22"
    assert OpaqueKeys("a secret of tests").key("user", 1234) == expected


def test_a_user_and_a_guild_of_the_same_number_have_different_keys() -> None:
    keys = OpaqueKeys("a secret of tests")
    assert keys.key("user", 1) != keys.key("guild", 1)


async def test_the_secret_is_made_once_and_only_its_owner_can_read_it(database_settings: DatabaseSettings) -> None:
    async with Database(database_settings) as database:
        first, second = await OpaqueKeys.load(database), await OpaqueKeys.load(database)
        path = database.folder / FILE
    assert first.key("user", 1) == second.key("user", 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [other.name for other in path.parent.glob("user-key*")] == [FILE]


async def test_the_environment_goes_before_the_file(database_settings: DatabaseSettings, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "a secret of tests")
    async with Database(database_settings) as database:
        keys = await OpaqueKeys.load(database)
        assert not (database.folder / FILE).exists()
    assert keys.key("user", 1) == OpaqueKeys("a secret of tests").key("user", 1)


async def test_another_secret_than_the_databases_is_refused(database_settings: DatabaseSettings, monkeypatch) -> None:
    async with Database(database_settings) as database:
        await OpaqueKeys.load(database)
        monkeypatch.setenv(VARIABLE, "a secret of tests")
        with pytest.raises(ConfigError, match="is not the one that the database was written with") as told:
            await OpaqueKeys.load(database)
    assert "a secret of tests" not in str(told.value)


async def test_a_short_secret_is_refused(database_settings: DatabaseSettings, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "short")
    async with Database(database_settings) as database:
        with pytest.raises(ConfigError, match="must hold at least 16 characters, got 5"):
            await OpaqueKeys.load(database)


async def test_an_empty_secret_file_is_refused(database_settings: DatabaseSettings, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("")
    async with Database(database_settings) as database:
        with pytest.raises(ConfigError, match="got 0"):
            await OpaqueKeys.load(database)


async def test_the_documented_way_to_go_on_without_a_lost_secret_works(store: Store, monkeypatch) -> None:
    """docs/privacy.md gives the SQL."""
    await store.log.finish(generation("a"))
    await store.stories.save("s", source="web", user_key="u", nodes=[{"id": "1", "kind": "prompt", "text": "Once"}])
    monkeypatch.setenv(VARIABLE, "a secret of tests")
    orders = re.findall(r"```sql\n(.*?)```", PRIVACY.read_text(encoding="utf-8"), re.DOTALL)[0]
    async with store.database.write() as session:
        for order in orders.strip().split(";\n"):
            await session.execute(sa.text(order.rstrip(";")))
    await OpaqueKeys.load(store.database)
    assert await store.log.rows() == []
    assert await store.stories.nodes("s") == []
