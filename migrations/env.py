"""Alembic runs this file for every command: on the connection it is given, or for the `alembic` program on its own."""

import asyncio

import sqlalchemy as sa
from alembic import context

from core.config import Config
from core.store import DatabaseSettings
from core.tables import Base
from migrations import locked


def migrate(connection: sa.Connection) -> None:
    """Run the command's migrations inside the caller's transaction, which is committed or undone as one."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        transactional_ddl=True,  # SQLite can, once its driver leaves BEGIN to us
        render_as_batch=connection.dialect.name == "sqlite",
    )
    context.run_migrations()


async def migrate_alone() -> None:
    async with locked(DatabaseSettings.read(Config())) as connection:
        await connection.run_sync(migrate)


if context.is_offline_mode():
    raise SystemExit("expected a database to migrate; --sql is not supported")
given = context.config.attributes.get("connection")
if given is None:
    asyncio.run(migrate_alone())
else:
    migrate(given)
