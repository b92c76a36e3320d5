"""The store: prompt log, settings, stories, keys and facts in one database. Knows no torch, no sockets, no Discord."""

from typing import Self

from ..config import Config
from .database import Database, DatabaseSettings
from .facts import Facts
from .keys import ApiKeys
from .settings import Settings
from .stories import Stories

__all__ = ["Database", "DatabaseSettings", "Store"]


class Store:
    """`async with Store.open(config) as store:` and then `store.stories`, `store.settings`, … Raises StoreError.

    The database must be up to date: `migrations.upgrade` comes first.
    """

    def __init__(self, database: DatabaseSettings) -> None:
        self.database = Database(database)
        self.settings = Settings(self.database)
        self.stories = Stories(self.database)
        self.keys = ApiKeys(self.database)
        self.facts = Facts(self.database)

    @classmethod
    def open(cls, config: Config) -> Self:
        """Return the store that `config` names, to be entered."""
        return cls(DatabaseSettings.read(config))

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.database.__aexit__(*error)
