"""API keys open until they are revoked, and the database does not know them."""

import asyncio

import pytest
import sqlalchemy as sa

from core.errors import InputError
from core.store import Store
from core.tables import ApiKey


async def test_a_key_is_found_until_it_is_revoked(store: Store) -> None:
    row, key = await store.keys.make("my editor")
    found = await store.keys.find(key)
    assert found is not None
    assert (found.id, found.name) == (row.id, "my editor")
    assert await store.keys.revoke(row.id)
    assert await store.keys.find(key) is None
    assert not await store.keys.revoke(row.id)


async def test_a_key_that_was_never_made_is_not_found(store: Store) -> None:
    await store.keys.make("my editor")
    assert await store.keys.find("fw-guess") is None


async def test_the_key_itself_is_nowhere_in_the_database(store: Store) -> None:
    _, key = await store.keys.make("my editor")
    async with store.database.read() as session:
        row = (await session.execute(sa.select(ApiKey.__table__))).one()
    assert key.removeprefix("fw-") not in str(tuple(row))
    assert len(row.digest) == 64


async def test_all_keys_are_listed_with_those_revoked(store: Store) -> None:
    first, _ = await store.keys.make("first")
    await store.keys.make("second")
    await store.keys.revoke(first.id)
    assert [(key.name, key.revoked_at is None) for key in await store.keys.all()] == [
        ("first", False),
        ("second", True),
    ]


async def test_a_key_needs_a_name(store: Store) -> None:
    with pytest.raises(InputError, match="1 to 255 characters, got 0"):
        await store.keys.make("  ")


async def test_keys_tried_by_a_crowd_are_told_apart(store: Store) -> None:
    _, key = await store.keys.make("my editor")
    found = await asyncio.gather(*(store.keys.find(tried) for tried in ["fw-guess", key, "fw-another", key]))
    assert [row and row.name for row in found] == [None, "my editor", None, "my editor"]


async def test_a_key_that_is_no_text_is_not_found(store: Store) -> None:
    assert await store.keys.find("fw-\udcff") is None


async def test_a_name_that_would_move_the_terminals_cursor_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="must have no control characters"):
        await store.keys.make("a friend\x1b[2J")
