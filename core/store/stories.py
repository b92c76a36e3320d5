"""Stories as trees: every prompt, edit and continuation is a node, a retry is a sibling, nothing is overwritten.

Who may see or change a story is the border's to ask; `Story.user_key` says whose it is.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from ..errors import InputError, StoreError
from ..tables import Node, Share, Story
from .database import Database, delete_rows

SNAPSHOT: Final = "snapshot"  # the text behind a link, no step of the story
MOST_CHARACTERS: Final = 1 << 24  # of a story, over all its nodes
MOST_DETAILS: Final = 1 << 25  # characters of JSON beside them: a token with its alternatives takes 200

_TRIES = 5
_TICK = timedelta(microseconds=1)  # keeps nodes saved together in their order


class Stories:
    """Stories, their nodes and their shares."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, story_id: str) -> Story | None:
        """Return one story, or None."""
        async with self._database.read() as session:
            return await session.get(Story, story_id)

    async def of_user(self, user_key: str, *, limit: int = 100) -> Sequence[Story]:
        """Return a user's stories without their details, the last touched first."""
        query = sa.select(Story).where(Story.user_key == user_key).order_by(Story.updated_at.desc()).limit(limit)
        query = query.options(defer(Story.details))
        async with self._database.read() as session:
            return (await session.scalars(query)).all()

    async def update(
        self,
        story_id: str,
        *,
        title: str | None = None,
        current_node_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Story:
        """Change what is given. Raises InputError for a story that is not there."""
        async with self._database.write() as session:
            story = await _story(session, story_id)
            if title is not None:
                story.title = title
            if current_node_id is not None:
                story.current_node_id = current_node_id
            if details is not None:
                story.details = dict(details)
            story.updated_at = datetime.now(UTC)
        return story

    async def save(
        self,
        story_id: str,
        *,
        source: str,
        user_key: str | None,
        guild_key: str | None = None,
        title: str | None = None,
        current_node_id: str | None = None,
        details: Mapping[str, Any] | None = None,
        nodes: Sequence[Mapping[str, Any]] = (),
    ) -> Story:
        """Make a story or change it, all at once: nodes are added or overwritten by id, and none is removed.

        Raises InputError for a parent that does not stand before its child, or that would change, and for a story that
        is somebody else's or grows beyond MOST_CHARACTERS.
        """
        now = datetime.now(UTC)
        async with self._database.write() as session:
            owner = {"source": source, "user_key": user_key, "guild_key": guild_key}
            blank: dict[str, Any] = {
                "title": "",
                "current_node_id": None,
                "created_at": now,
                "updated_at": now,
                "details": {},
            }
            story = await self._insert_or_lock(session, {"id": story_id} | owner | blank)
            if story.user_key != user_key:
                raise InputError("the story is somebody else's")
            story.title = story.title if title is None else title
            story.details = story.details if details is None else dict(details)
            story.current_node_id = current_node_id or story.current_node_id
            story.updated_at = now
            await session.flush()
            saved = await session.execute(
                sa.select(Node.id, Node.parent_id, Node.created_at).where(Node.story_id == story_id)
            )
            known = {id: (parent_id, created_at) for id, parent_id, created_at in saved}
            rows = [_node_row(story_id, node, known, now + i * _TICK) for i, node in enumerate(nodes)]
            if rows:
                await self._database.upsert(session, Node, rows)
                await _refuse_too_much(session, story_id)
            if story.current_node_id is not None and story.current_node_id not in known:
                raise InputError(f"current_node_id must be a node of the story, got {story.current_node_id!r}")
        return story

    async def _insert_or_lock(self, session: AsyncSession, row: dict[str, Any]) -> Story:
        """Return a story that is there now, so that saves of it take turns. Raises StoreError where it keeps going."""
        for _ in range(_TRIES):
            await self._database.insert_new(session, Story, [row])
            story = await session.get(Story, row["id"], with_for_update=True)
            if story is not None:  # else it was deleted between the two
                return story
        raise StoreError(f"story {row['id']!r} is deleted as often as it is saved")

    async def delete(self, story_id: str) -> bool:
        """Delete a story with its nodes and shares; False when there was none."""
        async with self._database.write() as session:
            return await delete_stories(session, Story.id == story_id) > 0

    async def nodes(self, story_id: str) -> Sequence[Node]:
        """Return every node of a story, parents before children."""
        query = sa.select(Node).where(Node.story_id == story_id).order_by(Node.created_at, Node.id)
        async with self._database.read() as session:
            return (await session.scalars(query)).all()

    async def running(self, source: str) -> Sequence[str]:
        """Return the ids of a border's stories whose current node was still being written when it was last kept."""
        is_current = sa.and_(Node.story_id == Story.id, Node.id == Story.current_node_id)
        query = sa.select(Story.id).join(Node, is_current).where(Story.source == source, Node.reason == "running")
        async with self._database.read() as session:
            return (await session.scalars(query)).all()

    async def share(self, story_id: str, node_id: str, *, lasts: timedelta) -> Share:
        """Make a link to a node. Its id has 192 random bits: it cannot be guessed."""
        now = datetime.now(UTC)
        share = Share(
            id=secrets.token_urlsafe(24),
            story_id=story_id,
            node_id=node_id,
            created_at=now,
            expires_at=now + lasts,
            withdrawn_at=None,
        )
        async with self._database.write() as session:
            await _node(session, story_id, node_id)
            session.add(share)
        return share

    async def shares(self, story_id: str) -> Sequence[Share]:
        """Return the links to a story that still open, the newest first."""
        query = sa.select(Share).where(Share.story_id == story_id, _is_open()).order_by(Share.created_at.desc())
        async with self._database.read() as session:
            return (await session.scalars(query)).all()

    async def shared(self, share_id: str) -> tuple[Share, Node] | None:
        """Return a link and the node that it shows; None where it never was, expired or was withdrawn."""
        of_share = sa.and_(Node.story_id == Share.story_id, Node.id == Share.node_id)
        query = sa.select(Share, Node).join(Node, of_share).where(Share.id == share_id, _is_open())
        async with self._database.read() as session:
            found = (await session.execute(query)).first()
        return None if found is None else (found[0], found[1])

    async def withdraw(self, share_id: str) -> bool:
        """Delete a link and the text kept for it; False when it was not open."""
        gone = sa.delete(Share).where(Share.id == share_id, _is_open()).returning(Share.story_id, Share.node_id)
        async with self._database.write() as session:
            node = (await session.execute(gone)).first()
            if node is not None:
                await delete_rows(
                    session, Node, Node.story_id == node.story_id, Node.id == node.node_id, Node.kind == SNAPSHOT
                )
        return node is not None


async def delete_stories(session: AsyncSession, *which: sa.ColumnElement[bool]) -> int:
    """Delete stories with their nodes and shares; return how many stories that were.

    SQLite follows a chain of at most 1000 nodes when it deletes one with its children, so each is made to stand alone.
    """
    of_stories = Node.story_id.in_(sa.select(Story.id).where(*which).with_for_update())  # none may begin to differ
    apart = sa.update(Node).where(of_stories, Node.parent_id.is_not(None)).values(parent_id=None)
    await session.execute(apart, execution_options={"synchronize_session": False})
    return await delete_rows(session, Story, *which)


def _is_open() -> sa.ColumnElement[bool]:
    return sa.and_(Share.withdrawn_at.is_(None), Share.expires_at > datetime.now(UTC))


def _node_row(
    story_id: str, node: Mapping[str, Any], known: dict[str, tuple[str | None, datetime]], now: datetime
) -> dict[str, Any]:
    """Return a node's columns and note it as known. A parent that never changes cannot be made to run in a circle."""
    id, parent_id = node["id"], node.get("parent_id")
    if parent_id is not None and parent_id not in known:
        raise InputError(f"node {id!r}: there is no parent {parent_id!r} before it in story {story_id!r}", "nodes")
    if parent_id is None and node["kind"] == "continuation":
        raise InputError(f"node {id!r}: a continuation needs a parent: begin with a prompt", "nodes")
    if id in known and known[id][0] != parent_id:
        raise InputError(f"node {id!r}: its parent is {known[id][0]!r} and cannot become {parent_id!r}", "nodes")
    if id not in known:
        after_parent = now if parent_id is None else known[parent_id][1] + _TICK  # a clock may have gone back
        known[id] = (parent_id, max(now, after_parent))
    defaults: dict[str, Any] = {
        "parent_id": None,
        "sampling": None,
        "checkpoint": None,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "reason": None,
        "request_id": None,
        "details": {},
    }
    return defaults | dict(node) | {"story_id": story_id, "created_at": known[id][1]}


async def _story(session: AsyncSession, story_id: str) -> Story:
    story = await session.get(Story, story_id)
    if story is None:
        raise InputError(f"there is no story {story_id!r}", "story_id")
    return story


async def _refuse_too_much(session: AsyncSession, story_id: str) -> None:
    """Raise InputError for a story that is larger than anybody writes; what lies behind links does not count."""
    text_size, details_size, sampling_size = (
        sa.func.coalesce(sa.func.sum(sa.func.length(column)), 0)  # there may be nothing but links
        for column in (Node.text, sa.cast(Node.details, sa.Text), sa.cast(Node.sampling, sa.Text))
    )
    own = sa.and_(Node.story_id == story_id, Node.kind != SNAPSHOT)
    sizes = sa.select(text_size, details_size + sampling_size).where(own)
    text, details = (await session.execute(sizes)).one()
    if text > MOST_CHARACTERS:
        raise InputError(f"a story may have at most {MOST_CHARACTERS:,} characters over all its steps")
    if details > MOST_DETAILS:
        raise InputError(
            f"the details and sampling of a story's steps may have at most {MOST_DETAILS:,} characters of JSON"
        )


async def _node(session: AsyncSession, story_id: str, node_id: str) -> Node:
    node = await session.get(Node, (story_id, node_id))
    if node is None:
        raise InputError(f"there is no node {node_id!r} in story {story_id!r}", "node_id")
    return node
