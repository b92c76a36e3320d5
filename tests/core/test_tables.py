"""The tables hold what is put into them, on both databases, without loading torch."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from core.errors import StoreError
from core.store import Database, DatabaseSettings
from core.tables import Fact, Prose, Story


def story(**changed: object) -> Story:
    values: dict[str, object] = {
        "id": "a",
        "user_key": None,
        "guild_key": None,
        "source": "web",
        "title": "",
        "current_node_id": None,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "updated_at": datetime(2026, 1, 1, tzinfo=UTC),
        "details": {},
    }
    return Story(**values | changed)


async def returned(settings: DatabaseSettings, row: Story) -> Story:
    async with Database(settings) as database:
        async with database.write() as session:
            session.add(row)
        async with database.read() as session:
            return (await session.scalars(sa.select(Story))).one()


async def test_a_nul_an_escape_and_an_emoji_in_prose_come_back(database_settings: DatabaseSettings) -> None:
    title = "dragon \0 \x1b0 \x1b 🐉 \r\n"
    assert (await returned(database_settings, story(title=title))).title == title


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_prose_is_escaped_without_loss(text: str) -> None:
    dialect = sa.create_engine("sqlite://").dialect
    escaped = Prose().process_bind_param(text, dialect)
    assert "\0" not in escaped
    assert Prose().process_result_value(escaped, dialect) == text


async def test_an_instant_comes_back_in_utc(database_settings: DatabaseSettings) -> None:
    in_tokyo = datetime(2026, 11, 23, 8, 30, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    row = await returned(database_settings, story(created_at=in_tokyo))
    assert row.created_at == in_tokyo
    assert row.created_at.tzinfo is UTC


async def test_an_instant_without_a_time_zone_is_refused(database_settings: DatabaseSettings) -> None:
    with pytest.raises(StoreError, match="refused a row: StatementError"):
        await returned(database_settings, story(created_at=datetime(2026, 1, 1)))  # noqa: DTZ001 - the very mistake


async def test_upserting_a_row_twice_leaves_one(database_settings: DatabaseSettings) -> None:
    async with Database(database_settings) as database:
        for value in ("first", "second"):
            async with database.write() as session:
                await database.upsert(session, Fact, [{"name": "a", "value": value}])
        async with database.read() as session:
            assert [fact.value for fact in await session.scalars(sa.select(Fact))] == ["second"]


async def test_an_error_inside_a_write_undoes_all_of_it(database_settings: DatabaseSettings) -> None:
    async with Database(database_settings) as database:
        with pytest.raises(StoreError):  # noqa: PT012 - the error must rise inside the block
            async with database.write() as session:
                await database.upsert(session, Fact, [{"name": "a", "value": "b"}])
                await session.execute(sa.text("SELECT * FROM nowhere"))
        async with database.read() as session:
            assert (await session.scalars(sa.select(Fact))).all() == []
