"""A story is a tree in which nothing is overwritten, and a share shows one node of it for a while."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy.orm.exc import DetachedInstanceError

from core.errors import InputError
from core.store import Store
from core.tables import Story

HOUR = timedelta(hours=1)


async def test_a_story_runs_until_its_current_node_has_ended(store: Store) -> None:
    await keep(store, "s", _prompt("1", "Once "), _more("2", "1", "upon ", reason="running"), current_node_id="2")
    await keep(store, "not begun")
    assert await store.stories.running("web") == ["s"]
    assert await store.stories.running("discord") == []
    await keep(store, "s", _more("2", "1", "upon ", reason="interrupted"))
    assert await store.stories.running("web") == []


async def test_the_current_node_must_be_one_of_the_story(store: Store) -> None:
    with pytest.raises(InputError, match="current_node_id must be a node of the story, got 'nobody'"):
        await keep(store, "s", _prompt("1", "Once"), current_node_id="nobody")
    assert await store.stories.get("s") is None


async def test_a_story_that_is_not_there_cannot_be_changed(store: Store) -> None:
    with pytest.raises(InputError, match="there is no story 'nowhere'"):
        await store.stories.update("nowhere", title="Lost")


async def test_nodes_come_in_the_order_of_the_tree_where_the_clock_went_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep(store, "s", _prompt("1", "Once"))
    earlier = datetime.now(UTC) - HOUR
    monkeypatch.setattr("core.store.stories.datetime", Mock(now=Mock(return_value=earlier)))
    await keep(store, "s", _more("2", "1", " upon"), _more("3", "2", " a"))
    assert [node.id for node in await store.stories.nodes("s")] == ["1", "2", "3"]


async def test_first_saves_of_one_story_that_meet_all_succeed(store: Store) -> None:
    await asyncio.gather(*(keep(store, "s", _prompt(str(number), "Once")) for number in range(4)))
    assert len(await store.stories.nodes("s")) == 4


async def test_a_save_that_a_deletion_overtakes_makes_the_story_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_new, calls = store.database.insert_new, []

    async def insert_late(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 1:  # the first finds the story there, and a moment later it is gone
            await insert_new(*arguments)

    monkeypatch.setattr(store.database, "insert_new", insert_late)
    await keep(store, "s", _prompt("1", "Once"))
    assert len(await store.stories.nodes("s")) == 1


async def test_a_story_stays_its_owners(store: Store) -> None:
    await keep(store, "s", _prompt("1", "Once"))
    with pytest.raises(InputError, match="the story is somebody else's"):
        await keep(store, "s", _prompt("2", "Twice"), user_key="another")
    assert len(await store.stories.nodes("s")) == 1


async def test_a_story_does_not_grow_without_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.store.stories.MOST_CHARACTERS", 1000)
    await keep(store, "s", _prompt("1", "x" * 900))
    with pytest.raises(InputError, match="a story may have at most 1,000 characters over all its steps"):
        await keep(store, "s", _prompt("2", "x" * 101))
    monkeypatch.setattr("core.store.stories.MOST_DETAILS", 1000)
    with pytest.raises(InputError, match="the details and sampling of a story's steps may have at most 1,000"):
        await keep(store, "s", _prompt("2", "x") | {"details": {"why": "y" * 1000}})
    with pytest.raises(InputError, match="the details and sampling of a story's steps may have at most 1,000"):
        await keep(store, "s", _prompt("2", "x") | {"details": {"why": "y" * 500}, "sampling": {"why": "y" * 500}})
    assert len(await store.stories.nodes("s")) == 1


async def test_a_users_stories_come_last_touched_first(store: Store) -> None:
    await keep(store, "1", title="first")
    await keep(store, "2", title="second")
    await keep(store, "3", user_key="another")
    await store.stories.update("1", title="first, touched", details={"message": 1})
    stories = await store.stories.of_user("u")
    assert [story.title for story in stories] == ["first, touched", "second"]
    with pytest.raises(DetachedInstanceError):
        _ = stories[0].details  # of many stories they may be megabytes


async def test_a_share_shows_its_node_until_it_is_withdrawn(store: Store) -> None:
    await keep(store, "s", _prompt("1", "Once"))
    share = await store.stories.share("s", "1", lasts=HOUR)
    assert len(share.id) == 32
    shown = await store.stories.shared(share.id)
    assert shown is not None
    assert (shown[0].id, shown[1].text) == (share.id, "Once")
    assert [open_share.id for open_share in await store.stories.shares("s")] == [share.id]
    assert await store.stories.withdraw(share.id)
    assert await store.stories.shared(share.id) is None
    assert not await store.stories.withdraw(share.id)


async def test_the_text_kept_for_a_link_goes_with_it(store: Store) -> None:
    await keep(store, "s", _prompt("1", "Once"), {"id": "2", "kind": "snapshot", "text": "shown"})
    for node_id in ("1", "2"):
        share = await store.stories.share("s", node_id, lasts=HOUR)
        assert await store.stories.withdraw(share.id)
    assert [node.id for node in await store.stories.nodes("s")] == ["1"]


async def test_a_share_that_expired_or_never_was_shows_nothing(store: Store) -> None:
    await keep(store, "s", _prompt("1", "Once"))
    expired = await store.stories.share("s", "1", lasts=-HOUR)
    assert await store.stories.shared(expired.id) is None
    assert await store.stories.shared("guessed") is None
    with pytest.raises(InputError, match="there is no node 'nobody' in story 's'"):
        await store.stories.share("s", "nobody", lasts=HOUR)


async def test_deleting_a_story_deletes_its_nodes_and_shares(store: Store) -> None:
    await keep(store, "s", _prompt("1", "Once"), _more("2", "1", " upon"))
    share = await store.stories.share("s", "1", lasts=HOUR)
    assert await store.stories.delete("s")
    assert not await store.stories.delete("s")
    assert await store.stories.nodes("s") == []
    assert await store.stories.shared(share.id) is None


async def test_a_story_saved_again_gains_nodes_and_loses_none(store: Store) -> None:
    await keep(store, "s", _prompt("1", "Once"), title="One")
    await keep(store, "s", _prompt("1", "Once!"), _more("2", "1", " more"), current_node_id="2")
    story = await keep(store, "s", _prompt("3", "Twice"))
    assert (story.title, story.current_node_id) == ("One", "2")
    nodes = await store.stories.nodes("s")
    assert [(node.id, node.text) for node in nodes] == [("1", "Once!"), ("2", " more"), ("3", "Twice")]


@pytest.mark.parametrize(
    "nodes",
    [
        [{"id": "2", "parent_id": "missing", "kind": "edit", "text": ""}],
        [{"id": "2", "kind": "continuation", "text": ""}],
        [{"id": "1", "parent_id": "2", "kind": "edit", "text": ""}],
        [{"id": "2", "parent_id": "2", "kind": "edit", "text": ""}],
        [
            {"id": "2", "parent_id": "1", "kind": "edit", "text": ""},
            {"id": "1", "parent_id": "2", "kind": "edit", "text": ""},
        ],
    ],
)
async def test_a_tree_that_would_not_be_one_is_refused_whole(store: Store, nodes: list[dict[str, Any]]) -> None:
    await keep(store, "s", _prompt("1", "Once"))
    await keep(store, "another", _prompt("missing", "Twice"))
    with pytest.raises(InputError, match="node '"):
        await keep(store, "s", *nodes)
    assert [node.id for node in await store.stories.nodes("s")] == ["1"]


async def keep(store: Store, id: str, *nodes: dict[str, Any], user_key: str = "u", **changes: Any) -> Story:
    return await store.stories.save(id, source="web", user_key=user_key, nodes=nodes, **changes)


def _prompt(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "kind": "prompt", "text": text}


def _more(id: str, parent_id: str, text: str, **facts: Any) -> dict[str, Any]:
    return {"id": id, "parent_id": parent_id, "kind": "continuation", "text": text, **facts}
