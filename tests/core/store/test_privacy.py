"""What is kept of a user can be had, and deleted so that no byte of it is left in the files."""

import asyncio
import importlib
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import migrations
from core.store import DatabaseSettings, LogSettings, Store
from core.tables import Forgotten, Generation, Node, Share, Story

from .conftest import generation

HOUR = timedelta(hours=1)


async def tell_a_story(store: Store, user_key: str, secret: str, source: str = "web") -> None:
    await store.log.finish(generation(f"of {user_key}", user_key=user_key, prompt=f"prompt {secret}"))
    node, story_id = {"id": "1", "kind": "prompt", "text": f"text {secret}"}, secrets.token_hex(16)
    await store.stories.save(story_id, source=source, user_key=user_key, title=f"title {secret}", nodes=[node])
    await store.stories.share(story_id, "1", lasts=HOUR)
    await store.settings.set("user", user_key, temperature=0.5)


async def test_a_batch_of_the_log_that_is_under_way_does_not_outlive_a_deletion(store: Store) -> None:
    """It has looked for people who want to be forgotten, then they want to be, then it writes."""
    late = {column.key: getattr(generation("late"), column.key) for column in sa.inspect(Generation).columns}
    async with store.database.write() as session:
        assert not (await session.scalars(sa.select(Forgotten))).all()
        deleting = asyncio.create_task(store.privacy.delete("u"))
        await asyncio.sleep(0.3)
        await store.database.upsert(session, Generation, [late])
    await deleting
    assert (await store.privacy.export("u"))["generations"] == []


async def test_everything_of_a_user_is_exported_and_nothing_of_others(store: Store) -> None:
    await tell_a_story(store, "u", "of mine")
    await tell_a_story(store, "v", "of theirs")
    exported = await store.privacy.export("u")
    assert [row["prompt"] for row in exported["generations"]] == ["prompt of mine"]
    assert [row["title"] for row in exported["stories"]] == ["title of mine"]
    assert [row["text"] for row in exported["nodes"]] == ["text of mine"]
    assert [row["value"] for row in exported["settings"]] == [0.5]
    assert len(exported["shares"]) == 1
    assert "theirs" not in str(exported)


async def test_everything_of_a_user_is_deleted_and_nothing_of_others(store: Store) -> None:
    await tell_a_story(store, "u", "of mine")
    await tell_a_story(store, "v", "of theirs")
    assert await store.privacy.delete("u") == 3  # a generation, a story, a setting
    gone, left = await store.privacy.export("u"), await store.privacy.export("v")
    kinds = ("generations", "stories", "nodes", "shares", "settings")
    assert [len(gone[kind]) for kind in kinds] == [0, 0, 0, 0, 0]
    assert [len(left[kind]) for kind in kinds] == [1, 1, 1, 1, 1]


async def test_deleted_settings_do_not_live_on_in_memory(store: Store) -> None:
    await tell_a_story(store, "u", "of mine")
    await store.settings.get("user", "u")
    await store.privacy.delete("u")
    assert await store.settings.get("user", "u") == {}


async def test_a_row_that_began_before_its_user_was_deleted_is_dropped_and_a_later_one_is_kept(store: Store) -> None:
    before = generation("before", started_at=datetime.now(UTC))
    await store.privacy.delete("u")
    await store.log.finish(before)
    await store.log.finish(generation("after", started_at=datetime.now(UTC)))
    assert [row.request_id for row in await store.log.rows()] == ["after"]


async def test_no_byte_of_what_was_deleted_is_left_in_a_sqlite_file(tmp_path: Path) -> None:
    settings = DatabaseSettings(url=f"sqlite:///{tmp_path}/test.sqlite3")
    await migrations.upgrade(settings)

    def bytes_on_disk() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    async with Store(settings, LogSettings(spool_mb=1)) as store:
        await asyncio.gather(*(store.log.finish(generation(f"filler {n}", user_key="v")) for n in range(300)))
        for n in range(300):
            store.log.start(generation(f"row {n}", user_key="u", prompt="zanzibar " * 100, reason="running"))
        await tell_a_story(store, "u", "zanzibar")
        assert b"zanzibar" in bytes_on_disk()
        await store.privacy.delete("u")
        assert b"zanzibar" not in bytes_on_disk()
        async with store.database.read() as session:
            assert await session.scalar(sa.text("PRAGMA freelist_count")) == 0  # the room went back to the disk
        assert len(await store.log.rows(limit=1000)) == 300


async def test_retention_deletes_what_is_too_old_and_keeps_saved_stories(store: Store) -> None:
    await tell_a_story(store, "u", "saved on the page")
    await tell_a_story(store, "v", "in Discord", source="discord")
    old = datetime.now(UTC) - timedelta(days=31)
    async with store.database.write() as session:
        for column in (Generation.started_at, Story.updated_at, Share.expires_at):
            await session.execute(sa.update(column.class_).values({column: old}))
        session.add(Forgotten(user_key="w", forgotten_at=old))
    await store.log.finish(generation("new"))
    assert await store.privacy.retain(30) == 6  # two shares, two generations, one story, one forgotten user
    assert [row.request_id for row in await store.log.rows()] == ["new"]
    assert [story.title for story in await store.stories.of_user("u")] == ["title saved on the page"]
    assert await store.stories.of_user("v") == []


@pytest.mark.parametrize("way", ["by itself", "with its user", "by retention"])
async def test_a_story_of_any_length_can_be_deleted(store: Store, way: str) -> None:
    nodes: list[dict[str, Any]] = [{"id": "0", "kind": "prompt", "text": "Once"}]
    nodes += [{"id": f"{n}", "parent_id": f"{n - 1}", "kind": "continuation", "text": ""} for n in range(1, 1500)]
    await store.stories.save("a" * 16, source="discord", user_key="u", nodes=nodes)
    if way == "by itself":
        assert await store.stories.delete("a" * 16)
    elif way == "with its user":
        assert await store.privacy.delete("u") == 1
    else:
        async with store.database.write() as session:
            await session.execute(sa.update(Story).values(updated_at=datetime.now(UTC) - timedelta(days=31)))
        assert await store.privacy.retain(30) == 1
    assert await store.stories.nodes("a" * 16) == []


async def test_retention_deletes_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("core.store.privacy"), "_BATCH", 2)
    for n in range(5):
        await tell_a_story(store, f"u{n}", "old", source="discord")
    old = datetime.now(UTC) - timedelta(days=31)
    async with store.database.write() as session:
        await session.execute(sa.update(Generation).values(started_at=old))
        await session.execute(sa.update(Story).values(updated_at=old))
    commits = []
    sa.event.listen(store.database._database.sync_engine, "commit", commits.append)
    assert await store.privacy.retain(30) == 10
    assert len(commits) >= 6
    assert await store.log.rows() == []


async def test_retention_deletes_the_text_behind_a_link_that_no_longer_opens(store: Store) -> None:
    for name in ("open", "expired", "fresh"):
        await store.stories.save("a" * 16, source="web", user_key="u", nodes=[snapshot(name)])
    await store.stories.share("a" * 16, "open", lasts=HOUR)
    await store.stories.share("a" * 16, "expired", lasts=-HOUR)
    async with store.database.write() as session:
        aged = sa.update(Node).where(Node.id != "fresh").values(created_at=datetime.now(UTC) - timedelta(days=1))
        await session.execute(aged)
    assert await store.privacy.retain(0) == 2  # the share and its snapshot
    assert {node.id for node in await store.stories.nodes("a" * 16)} == {"open", "fresh"}


def snapshot(name: str) -> dict[str, str]:
    return {"id": name, "kind": "snapshot", "text": "shown"}


async def test_retention_of_zero_days_keeps_everything(store: Store) -> None:
    await store.log.finish(generation("old", started_at=datetime(2000, 1, 1, tzinfo=UTC)))
    assert await store.privacy.retain(0) == 0
    assert len(await store.log.rows()) == 1


async def test_retention_runs_by_itself(database_settings: DatabaseSettings) -> None:
    async with Store(database_settings, LogSettings(spool_mb=1, retention_days=0)) as store:
        await store.log.finish(generation("old", started_at=datetime(2000, 1, 1, tzinfo=UTC)))
    async with Store(database_settings, LogSettings(spool_mb=1, retention_days=1)) as store, asyncio.timeout(20):
        while await store.log.rows():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["user", "guild"])
async def test_an_opaque_key_is_the_same_after_a_restart(database_settings: DatabaseSettings, kind: str) -> None:
    keys = []
    for _ in range(2):
        async with Store(database_settings, LogSettings(spool_mb=1)) as store:
            keys.append(store.opaque.key(kind, 1234))
    assert keys[0] == keys[1]
    assert len(keys[0]) == 64
