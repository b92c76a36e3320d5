"""Brings a database up to date, with Alembic; `python -m migrations`, or `await upgrade(settings)` at a server's start.

Everything happens in one transaction under a lock: processes started together take turns, and a migration that fails
half way leaves the database as it was.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import FablewrightError, StoreError
from core.store import Database, DatabaseSettings

_LOCK = 0x6661626C65  # PostgreSQL's advisory locks are numbers; this one spells "fable"
_PATIENCE_S = 300.0  # another process may be migrating
_UNCHANGED = "nothing was changed, so the version before still runs with it"


async def upgrade(settings: DatabaseSettings) -> None:
    """Bring the database to the newest revision. Raises StoreError, with nothing changed, where that cannot be done."""
    await _move(settings, command.upgrade, "head")


async def downgrade(settings: DatabaseSettings, revision: str) -> None:
    """Take the database back to `revision`; what the newer tables held is lost. Raises StoreError."""
    await _move(settings, command.downgrade, revision)


async def is_current(settings: DatabaseSettings) -> bool:
    """Say whether the database stands at the newest revision; makes nothing. Raises StoreError."""
    if not Database(settings).exists:
        return False
    async with Database(settings) as database, database.read() as session:
        connection = await session.connection()
        return await connection.run_sync(_revision) == ScriptDirectory.from_config(_config()).get_current_head()


@contextlib.asynccontextmanager
async def locked(settings: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    """Give a connection in a transaction that no other migration shares."""
    patient = settings.model_copy(update={"statement_timeout_s": _PATIENCE_S})
    async with Database(patient) as database, database.write() as session:
        if not database.is_sqlite:  # SQLite's BEGIN IMMEDIATE is such a lock already
            await session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield await session.connection()


async def _move(settings: DatabaseSettings, move: Callable[[Config, str], None], revision: str) -> None:
    async with locked(settings) as connection:
        await connection.run_sync(_run, move, revision)


def _run(connection: sa.Connection, move: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    _refuse_newer(connection, ScriptDirectory.from_config(config))
    config.attributes["connection"] = connection
    try:
        move(config, revision)
    except FablewrightError:
        raise
    except Exception as error:  # a migration is any code; the block above rolls all of it back
        where = connection.engine.url.render_as_string(hide_password=True)
        raise StoreError(f"cannot migrate {where}: {_cause(error)}; {_UNCHANGED}") from error


def _cause(error: Exception) -> object:
    return error.orig if isinstance(error, DBAPIError) else error  # SQLAlchemy adds the statement, a page long


def _config() -> Config:
    """Return Alembic's configuration without pyproject.toml, which an installed package does not have."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(connection: sa.Connection, scripts: ScriptDirectory) -> None:
    found = _revision(connection)
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        where = connection.engine.url.render_as_string(hide_password=True)
        raise StoreError(
            f"the database {where} is at revision {found}, this program knows up to {scripts.get_current_head()}: "
            "it was written by a newer version; install that version, or restore a backup"
        )
