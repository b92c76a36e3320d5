"""Settings that people change while the program runs: a user's, a guild's and the installation's own.

A value is any JSON. The nearest wins: user, then guild, then installation; where none is set, config.toml decides,
which this module does not read. Answers are kept for a few seconds, and longer while the database is away: generation
goes on through an outage with the settings last seen.
"""

import time
from collections import OrderedDict
from typing import Any, Literal

import sqlalchemy as sa

from ..errors import StoreError
from ..tables import Setting
from .batched import Batched
from .database import Database

Scope = Literal["user", "guild", "installation"]
Place = tuple[Scope, str]

_FRESH_S = 2.0  # another process's change is seen after this
_REMEMBERED = 10_000  # owners


class Settings:
    """Values by (scope, owner, name); the installation's owner is the empty string."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: OrderedDict[Place, tuple[float, dict[str, Any]]] = OrderedDict()
        self._query = Batched(self._load)

    async def resolve(self, *, user_key: str | None = None, guild_key: str | None = None) -> dict[str, Any]:
        """Return every value that holds for a user in a guild. Raises StoreError when away and not seen before."""
        resolved = dict(await self.get("installation"))
        if guild_key is not None:
            resolved |= await self.get("guild", guild_key)
        if user_key is not None:
            resolved |= await self.get("user", user_key)
        return resolved

    async def get(self, scope: Scope, owner: str = "") -> dict[str, Any]:
        """Return what is set in one place alone."""
        now = time.monotonic()
        seen = self._seen.get((scope, owner))
        if seen and now - seen[0] < _FRESH_S:
            return dict(seen[1])
        try:
            values = await self._query.ask((scope, owner))
        except StoreError:
            if seen is None:
                raise
            values = seen[1]
        self._remember(scope, owner, now, values)
        return dict(values)

    async def set(self, scope: Scope, owner: str = "", /, **values: Any) -> None:
        """Set each value; None unsets it, so that the next scope decides again."""
        rows = [{"scope": scope, "owner": owner, "name": n, "value": v} for n, v in values.items() if v is not None]
        unset = [name for name, value in values.items() if value is None]
        async with self._database.write() as session:
            if rows:
                await self._database.upsert(session, Setting, rows)
            await session.execute(
                sa.delete(Setting).where(Setting.scope == scope, Setting.owner == owner, Setting.name.in_(unset))
            )
        self.forget(scope, owner)

    async def reset(self, scope: Scope, owner: str = "") -> None:
        """Unset everything in one place."""
        async with self._database.write() as session:
            await session.execute(sa.delete(Setting).where(Setting.scope == scope, Setting.owner == owner))
        self.forget(scope, owner)

    def forget(self, scope: Scope, owner: str) -> None:
        """Drop what is remembered of one place, which changed in the database."""
        self._seen.pop((scope, owner), None)

    async def _load(self, places: list[Place]) -> dict[Place, dict[str, Any]]:
        values: dict[Place, dict[str, Any]] = {place: {} for place in places}
        query = sa.select(Setting.scope, Setting.owner, Setting.name, Setting.value)
        query = query.where(sa.tuple_(Setting.scope, Setting.owner).in_(places))
        async with self._database.read() as session:
            for scope, owner, name, value in await session.execute(query):
                values[scope, owner][name] = value
        return values

    def _remember(self, scope: Scope, owner: str, now: float, values: dict[str, Any]) -> None:
        self._seen[scope, owner] = (now, values)
        self._seen.move_to_end((scope, owner))
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
