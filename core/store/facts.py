"""Small things that the installation must remember of itself, by name."""

from ..tables import Fact
from .database import Database


class Facts:
    """Strings by name, such as the hash of the commands last sent to Discord."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> str | None:
        """Return what is known, or None."""
        async with self._database.read() as session:
            fact = await session.get(Fact, name)
        return fact.value if fact else None

    async def settle(self, name: str, value: str) -> str:
        """Remember `value` unless something is known already; return what is known now."""
        async with self._database.write() as session:
            await self._database.insert_new(session, Fact, [{"name": name, "value": value}])
            fact = await session.get(Fact, name)
        assert fact is not None
        return fact.value

    async def set(self, name: str, value: str) -> None:
        """Remember `value` under `name`."""
        async with self._database.write() as session:
            await self._database.upsert(session, Fact, [{"name": name, "value": value}])
