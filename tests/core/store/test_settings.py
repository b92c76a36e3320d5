"""The nearest setting wins, and the last ones seen carry on through an outage."""

import asyncio

import pytest
import sqlalchemy as sa

from core.errors import StoreError
from core.store import DatabaseSettings, Store
from tests.fixtures.databases import PostgresServer


async def test_the_user_goes_before_the_guild_and_the_guild_before_the_installation(store: Store) -> None:
    await store.settings.set("installation", temperature=0.1, top_p=0.1, top_k=1)
    await store.settings.set("guild", "g", temperature=0.2, top_p=0.2)
    await store.settings.set("user", "u", temperature=0.3)
    resolved = await store.settings.resolve(user_key="u", guild_key="g")
    assert resolved == {"temperature": 0.3, "top_p": 0.2, "top_k": 1}


async def test_another_users_and_guilds_settings_do_not_leak(store: Store) -> None:
    await store.settings.set("guild", "other", temperature=0.2)
    await store.settings.set("user", "other", temperature=0.3)
    assert await store.settings.resolve(user_key="u", guild_key="g") == {}


async def test_none_unsets_a_value_and_leaves_the_others(store: Store) -> None:
    await store.settings.set("user", "u", temperature=0.3, rules={"channels": ["1", "2"]})
    await store.settings.set("user", "u", temperature=None)
    assert await store.settings.get("user", "u") == {"rules": {"channels": ["1", "2"]}}


async def test_a_value_set_to_false_or_zero_stays_set(store: Store) -> None:
    await store.settings.set("guild", "g", keep_text=False, top_k=0)
    assert await store.settings.get("guild", "g") == {"keep_text": False, "top_k": 0}


async def test_reset_unsets_everything_in_one_place(store: Store) -> None:
    await store.settings.set("user", "u", temperature=0.3, top_k=5)
    await store.settings.set("guild", "u", temperature=0.4)
    await store.settings.reset("user", "u")
    assert await store.settings.resolve(user_key="u", guild_key="u") == {"temperature": 0.4}


async def test_a_change_is_seen_by_the_one_who_made_it_at_once(store: Store) -> None:
    await store.settings.set("user", "u", temperature=0.3)
    await store.settings.get("user", "u")
    await store.settings.set("user", "u", temperature=0.5)
    assert await store.settings.get("user", "u") == {"temperature": 0.5}


async def test_a_crowd_that_asks_at_once_shares_its_queries(store: Store) -> None:
    await store.settings.set("installation", top_k=1)
    await store.settings.set("user", "u7", temperature=0.7)
    queries = []
    sa.event.listen(
        store.database._database.sync_engine, "before_cursor_execute", lambda *told: queries.append(told[2])
    )
    crowd = [store.settings.resolve(user_key=f"u{n}") for n in range(300)]
    resolved = await asyncio.gather(*crowd)
    assert resolved[7] == {"top_k": 1, "temperature": 0.7}
    assert resolved[8] == {"top_k": 1}
    assert len([query for query in queries if "settings" in query]) <= 4


async def test_one_who_asked_and_went_does_not_take_the_answer_from_another(store: Store) -> None:
    await store.settings.set("user", "u", temperature=0.3)
    impatient = asyncio.create_task(store.settings.get("user", "u"))
    patient = asyncio.create_task(store.settings.get("user", "u"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == {"temperature": 0.3}


@pytest.mark.postgres
async def test_settings_seen_before_an_outage_hold_through_it(
    postgres_server: PostgresServer, tmp_path, monkeypatch
) -> None:
    import migrations

    settings = DatabaseSettings(url=postgres_server.new_database(), folder=str(tmp_path))
    await migrations.upgrade(settings)
    monkeypatch.setattr("core.store.settings._FRESH_S", 0.0)
    async with Store(settings) as store:
        await store.settings.set("user", "u", temperature=0.3)
        await store.settings.get("user", "u")
        postgres_server.stop()
        try:
            assert await store.settings.get("user", "u") == {"temperature": 0.3}
            with pytest.raises(StoreError):
                await store.settings.get("user", "never seen")
        finally:
            postgres_server.start()
        assert await store.settings.get("user", "never seen") == {}
