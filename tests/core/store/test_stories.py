"""A story is a tree in which nothing is overwritten, and a share shows one node of it for a while."""

from datetime import timedelta
from typing import Any

import pytest

from core.errors import InputError
from core.store import Store

HOUR = timedelta(hours=1)


async def test_the_text_at_a_node_is_the_last_whole_text_and_what_was_added_since(store: Store) -> None:
    story = await store.stories.create(source="web", user_key="u")
    prompt = await store.stories.add_node(story.id, kind="prompt", text="Once ")
    upon = await store.stories.add_node(story.id, kind="continuation", text="upon ", parent_id=prompt.id)
    time = await store.stories.add_node(story.id, kind="continuation", text="a time", parent_id=upon.id)
    edit = await store.stories.add_node(story.id, kind="edit", text="Twice upon ", parent_id=upon.id)
    tide = await store.stories.add_node(story.id, kind="continuation", text="a tide", parent_id=edit.id)
    assert await store.stories.text_at(story.id, time.id) == "Once upon a time"
    assert await store.stories.text_at(story.id, tide.id) == "Twice upon a tide"


async def test_a_new_node_becomes_the_current_one(store: Store) -> None:
    story = await store.stories.create(source="web", user_key="u", title="A tale")
    node = await store.stories.add_node(story.id, kind="prompt", text="Once", node_id="first", sampling={"seed": 7})
    seen = await store.stories.get(story.id)
    assert seen is not None
    assert (seen.title, seen.current_node_id) == ("A tale", "first")
    assert node.sampling == {"seed": 7}


async def test_adding_a_node_again_overwrites_it(store: Store) -> None:
    story = await store.stories.create(source="web", user_key="u")
    for text in ("Once", "Once upon"):
        await store.stories.add_node(story.id, kind="prompt", text=text, node_id="n")
    assert [node.text for node in await store.stories.nodes(story.id)] == ["Once upon"]


async def test_a_node_needs_its_story_and_its_parent(store: Store) -> None:
    story = await store.stories.create(source="web", user_key="u")
    with pytest.raises(InputError, match="there is no story 'nowhere'"):
        await store.stories.add_node("nowhere", kind="prompt", text="")
    with pytest.raises(InputError, match="there is no node 'nobody' in story"):
        await store.stories.add_node(story.id, kind="continuation", text="", parent_id="nobody")
    with pytest.raises(InputError, match="a continuation needs a parent node"):
        await store.stories.add_node(story.id, kind="continuation", text="")


async def test_a_parent_must_stand_in_the_same_story(store: Store) -> None:
    mine = await store.stories.create(source="web", user_key="u")
    theirs = await store.stories.create(source="web", user_key="v")
    node = await store.stories.add_node(theirs.id, kind="prompt", text="secret")
    with pytest.raises(InputError, match="there is no node"):
        await store.stories.add_node(mine.id, kind="continuation", text="", parent_id=node.id)


async def test_a_story_runs_until_its_current_node_has_ended(store: Store) -> None:
    story = await store.stories.create(source="discord", user_key="u")
    await store.stories.create(source="discord", user_key="u", title="not begun")
    prompt = await store.stories.add_node(story.id, kind="prompt", text="Once ")
    node = await store.stories.add_node(
        story.id, kind="continuation", text="upon ", parent_id=prompt.id, reason="running"
    )
    assert await store.stories.running("discord") == [story.id]
    assert await store.stories.running("web") == []
    ended = {"id": node.id, "parent_id": prompt.id, "kind": "continuation", "text": "upon ", "reason": "interrupted"}
    await store.stories.save(story.id, source="discord", user_key="u", nodes=[ended])
    assert await store.stories.running("discord") == []


async def test_a_users_stories_come_last_touched_first(store: Store) -> None:
    first = await store.stories.create(source="web", user_key="u", title="first")
    await store.stories.create(source="web", user_key="u", title="second")
    await store.stories.create(source="web", user_key="another")
    await store.stories.update(first.id, title="first, touched", details={"message": 1})
    stories = await store.stories.of_user("u")
    assert [story.title for story in stories] == ["first, touched", "second"]
    assert stories[0].details == {"message": 1}


async def test_a_share_shows_its_node_until_it_is_withdrawn(store: Store) -> None:
    story = await store.stories.create(source="web", user_key="u")
    node = await store.stories.add_node(story.id, kind="prompt", text="Once")
    share = await store.stories.share(story.id, node.id, lasts=HOUR)
    assert len(share.id) == 32
    shown = await store.stories.shared(share.id)
    assert shown is not None
    assert shown[2] == "Once"
    assert [open_share.id for open_share in await store.stories.shares(story.id)] == [share.id]
    assert await store.stories.withdraw(share.id)
    assert await store.stories.shared(share.id) is None
    assert not await store.stories.withdraw(share.id)


async def test_a_share_that_expired_or_never_was_shows_nothing(store: Store) -> None:
    story = await store.stories.create(source="web", user_key="u")
    node = await store.stories.add_node(story.id, kind="prompt", text="Once")
    expired = await store.stories.share(story.id, node.id, lasts=-HOUR)
    assert await store.stories.shared(expired.id) is None
    assert await store.stories.shared("guessed") is None


async def test_deleting_a_story_deletes_its_nodes_and_shares(store: Store) -> None:
    story = await store.stories.create(source="web", user_key="u")
    node = await store.stories.add_node(story.id, kind="prompt", text="Once")
    await store.stories.add_node(story.id, kind="continuation", text=" upon", parent_id=node.id)
    share = await store.stories.share(story.id, node.id, lasts=HOUR)
    assert await store.stories.delete(story.id)
    assert not await store.stories.delete(story.id)
    assert await store.stories.nodes(story.id) == []
    assert await store.stories.shared(share.id) is None


async def test_a_story_saved_again_gains_nodes_and_loses_none(store: Store) -> None:
    await store.stories.save("a" * 16, source="web", user_key="u", title="One", nodes=[_prompt("1", "Once")])
    more = [_prompt("1", "Once!"), {"id": "2", "parent_id": "1", "kind": "continuation", "text": " more"}]
    story = await store.stories.save("a" * 16, source="web", user_key="u", current_node_id="2", nodes=more)
    await store.stories.save("a" * 16, source="web", user_key="u", nodes=[_prompt("3", "Twice")])
    assert (story.title, story.current_node_id) == ("One", "2")
    assert [node.id for node in await store.stories.nodes("a" * 16)] == ["1", "2", "3"]
    assert await store.stories.text_at("a" * 16, "2") == "Once! more"


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
    await store.stories.save("a" * 16, source="web", user_key="u", nodes=[_prompt("1", "Once")])
    with pytest.raises(InputError, match="node '"):
        await store.stories.save("a" * 16, source="web", user_key="u", nodes=nodes)
    assert [node.id for node in await store.stories.nodes("a" * 16)] == ["1"]


def _prompt(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "kind": "prompt", "text": text}
