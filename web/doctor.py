"""`python -m web doctor`: looks at everything a server needs and says, for each, that it is well or what to do.

It changes nothing: no migration, no file, no port is kept.
"""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import migrations
from core.config import Config
from core.errors import ConfigError, FablewrightError
from core.requests import Limits, SamplingDefaults
from core.store import Database, DatabaseSettings, LogSettings

from .listen import bind, refuse_public
from .settings import WebSettings

_LITTLE_ROOM = 2**30  # bytes


async def examine() -> int:
    """Print one line a check; return 0 where all is well, else 1."""
    try:
        config = Config()
    except ConfigError as error:
        print(f"bad   configuration: {error}")
        return 1
    checks: list[tuple[str, Callable[[Config], Awaitable[str]]]] = [
        ("configuration", _configuration),
        ("checkpoint", _checkpoint),
        ("database", _database),
        ("disk", _disk),
        ("address", _address),
    ]
    problems = 0
    for name, check in checks:
        try:
            print(f"well  {name}: {await check(config)}")
        except FablewrightError as error:
            problems += 1
            print(f"bad   {name}: {error}")
    return 1 if problems else 0


async def _configuration(config: Config) -> str:
    config.table("web", WebSettings)
    config.table("sampling", SamplingDefaults)
    config.table("limits", Limits)
    config.table("log", LogSettings)
    DatabaseSettings.read(config)
    return f"{config.path} is understood; its table [bot] is checked when the bot starts"


async def _checkpoint(config: Config) -> str:
    from .serve import open_engines  # loads torch

    async with open_engines(config) as engines:
        await engines.get()
        others = len(engines.names()) - 1
        return f"{engines.default_name} loads; {others} other{'' if others == 1 else 's'} found"


async def _database(config: Config) -> str:
    settings = DatabaseSettings.read(config)
    database = Database(settings)
    if database.is_sqlite and not Path(database.url.database or "").exists():
        return f"{database} does not exist yet; it is made at the first start"
    if not await migrations.is_current(settings):
        raise ConfigError(f"{database} is not up to date: run `python -m migrations`, or start the server")
    if database.is_sqlite and not os.access(database.url.database or "", os.W_OK):
        raise ConfigError(f"{database} cannot be written: give this user the right to, or set [database] url")
    return f"{database} is up to date"


async def _disk(config: Config) -> str:
    folder = Database(DatabaseSettings.read(config)).folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_ROOM:
        raise ConfigError(f"only {free / 2**20:.0f} MiB are free at {folder}: the log needs room; free some")
    return f"{free / 2**30:.0f} GiB are free at {folder}"


async def _address(config: Config) -> str:
    settings = config.table("web", WebSettings)
    refuse_public(settings)
    for listener in bind(settings):
        listener.close()
    return f"port {settings.port} on {settings.host} is free"
