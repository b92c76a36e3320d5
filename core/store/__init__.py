"""The store: prompt log, settings, stories, keys and facts in one database. Knows no torch, no sockets, no Discord."""

import asyncio
import contextlib
import logging
from typing import Self

from ..config import Config
from ..errors import StoreError
from .database import Database, DatabaseSettings, RowsRefusedError
from .facts import Facts
from .keys import ApiKeys
from .log import Log, LogSettings, LogStats
from .opaque import OpaqueKeys
from .privacy import Privacy
from .settings import Settings
from .stories import Stories

__all__ = [
    "ApiKeys",
    "Database",
    "DatabaseSettings",
    "LogSettings",
    "LogStats",
    "OpaqueKeys",
    "Privacy",
    "RowsRefusedError",
    "Store",
]

log = logging.getLogger(__name__)

_RETENTION_EVERY_S = 3600.0


class Store:
    """`async with Store.open(config) as store:` and then `store.log`, `store.settings`, `store.stories`, …

    The database must be up to date: `migrations.upgrade` comes first. Raises StoreError.
    """

    opaque: OpaqueKeys  # known once the store is entered

    def __init__(self, database: DatabaseSettings, log: LogSettings | None = None) -> None:
        self.log_settings = log or LogSettings()
        self.database = Database(database)
        self.log = Log(self.database, self.log_settings)
        self.settings = Settings(self.database)
        self.stories = Stories(self.database)
        self.keys = ApiKeys(self.database)
        self.facts = Facts(self.database)
        self.privacy = Privacy(self.database, self.settings)
        self._resources = contextlib.AsyncExitStack()

    @classmethod
    def open(cls, config: Config) -> Self:
        """Return the store that `config` names, to be entered."""
        return cls(DatabaseSettings.read(config), config.table("log", LogSettings))

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as resources:
            await resources.enter_async_context(self.database)
            self.opaque = await OpaqueKeys.load(self.database)
            await resources.enter_async_context(self.log)
            tidying = asyncio.create_task(self._tidy(), name="store-retention")
            resources.push_async_callback(_cancel, tidying)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._resources.aclose()

    async def _tidy(self) -> None:
        while True:
            try:
                deleted = await self.privacy.retain(self.log_settings.retention_days)
                log.info("retention: rows_deleted=%d", deleted)
            except StoreError as error:
                log.warning("retention waits: %s", error)
            except Exception:  # a task's border: what must be deleted is tried again in an hour
                log.exception("retention failed")
            await asyncio.sleep(_RETENTION_EVERY_S)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
