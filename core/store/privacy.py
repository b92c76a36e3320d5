"""What is kept of a user, all of it: given out, deleted for good, and deleted by itself when it is old enough."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ..errors import StoreError
from ..tables import Base, Forgotten, Generation, Node, Setting, Share, Story
from .database import Database, delete_rows
from .settings import Settings
from .stories import SNAPSHOT, delete_stories

log = logging.getLogger(__name__)

_BATCH = 1000  # rows
_MOMENT = timedelta(hours=1)  # by far enough for a share to follow the snapshot that was saved for it


class Privacy:
    """Export and deletion by user key, and retention."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def export(self, user_key: str) -> dict[str, Any]:
        """Return everything kept of a user, ready for JSON."""
        async with self._database.read() as session:
            stories = (await session.scalars(sa.select(Story).where(Story.user_key == user_key))).all()
            of_stories = [story.id for story in stories]
            queries = {
                "generations": sa.select(Generation)
                .where(Generation.user_key == user_key)
                .order_by(Generation.started_at),
                "nodes": sa.select(Node).where(Node.story_id.in_(of_stories)).order_by(Node.created_at),
                "shares": sa.select(Share).where(Share.story_id.in_(of_stories)).order_by(Share.created_at),
                "settings": sa.select(Setting).where(Setting.scope == "user", Setting.owner == user_key),
            }
            exported = {name: _plain(await session.scalars(query)) for name, query in queries.items()}
        return {"user_key": user_key, "stories": _plain(stories), **exported}

    async def delete(self, user_key: str) -> int:
        """Delete everything kept of a user; return how many rows that were.

        A generation of theirs that is still running, or waits in a spool, is dropped when it arrives.
        """
        now = datetime.now(UTC)
        async with self._database.write() as session:
            await self._database.lock(session, Forgotten)  # a batch of the log that has looked must be in before
            await self._database.upsert(session, Forgotten, [{"user_key": user_key, "forgotten_at": now}])
            deleted = await delete_rows(session, Generation, Generation.user_key == user_key)
            deleted += await delete_stories(session, Story.user_key == user_key)
            deleted += await delete_rows(session, Setting, Setting.scope == "user", Setting.owner == user_key)
        self._settings.forget("user", user_key)
        await self._reclaim()
        return deleted

    async def retain(self, days: int) -> int:
        """Delete the log and Discord's stories older than `days` (0 = keep them), and shares that no longer open.

        Stories that visitors saved on the server stay until they delete them. Returns how many rows were deleted.
        """
        now = datetime.now(UTC)
        deleted = await self._delete_all(Share, sa.or_(Share.expires_at < now, Share.withdrawn_at.is_not(None)))
        of_shares = sa.exists().where(Share.story_id == Node.story_id, Share.node_id == Node.id)
        deleted += await self._delete_all(Node, Node.kind == SNAPSHOT, ~of_shares, Node.created_at < now - _MOMENT)
        if days > 0:
            oldest = now - timedelta(days=days)
            deleted += await self._delete_all(Generation, Generation.started_at < oldest)
            deleted += await self._delete_all(Story, Story.source == "discord", Story.updated_at < oldest)
            deleted += await self._delete_all(Forgotten, Forgotten.forgotten_at < oldest)
        if deleted:
            await self._reclaim()
        return deleted

    async def _delete_all(self, table: type[Base], *which: sa.ColumnElement[bool]) -> int:
        """Delete rows, a batch a transaction: all at once could take longer than a statement may, for ever."""
        key = sa.inspect(table).primary_key
        batch = sa.select(*key).select_from(table).where(*which).limit(_BATCH).with_for_update(of=table)
        deleted, count = 0, _BATCH
        while count == _BATCH:
            async with self._database.write() as session:
                these = sa.tuple_(*key).in_([tuple(row) for row in await session.execute(batch)])
                count = await (delete_stories(session, these) if table is Story else delete_rows(session, table, these))
            deleted += count
        return deleted

    async def _reclaim(self) -> None:
        try:
            await self._database.reclaim()
        except StoreError as error:  # the rows are gone already; the next deletion clears up after this one too
            log.warning("room not reclaimed: %s", error)


def _plain(rows: Iterable[Base]) -> list[dict[str, Any]]:
    return [{column.name: _json(getattr(row, column.name)) for column in row.__table__.columns} for row in rows]


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
