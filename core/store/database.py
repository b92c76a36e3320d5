"""The connection to SQLite or PostgreSQL: how it is opened, read, written, and how its errors are told."""

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from ..config import Config
from ..errors import ConfigError, StoreError
from ..tables import Base

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg"}
_PRAGMAS = (
    "synchronous = FULL",  # in WAL, NORMAL would lose the last commits in a power cut
    "foreign_keys = ON",
    "secure_delete = ON",  # deleted text is overwritten, not just unlinked
)
_VACUUM_S = 3600.0  # of one table; longer than a statement may take


class RowsRefusedError(StoreError):
    """The database was reached and refused what it was given: trying again is of no use."""

    code = "invalid_request"


class DatabaseSettings(BaseModel):
    """`[database]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "sqlite:///data/fablewright.sqlite3"
    folder: str = "data"  # where files stand that belong to a PostgreSQL database; SQLite's stand beside its own
    connect_timeout_s: float = Field(default=5, gt=0)
    statement_timeout_s: float = Field(default=10, gt=0)  # SQLite: how long to wait for another process's transaction

    @classmethod
    def read(cls, config: Config) -> Self:
        """Return `[database]` of `config`; DATABASE_URL in the environment, which may hold a password, goes before."""
        settings = config.table("database", cls)
        url = os.environ.get("DATABASE_URL")
        return settings.model_copy(update={"url": url}) if url else settings


class Database:
    """`async with Database(settings) as database:` then `read()` and `write()` give a session in a transaction."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """Parse the address; nothing is opened yet. Raises ConfigError for an address that cannot be one."""
        self.url = _parse_url(settings.url)
        self._folder = Path(settings.folder)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._write_lock: contextlib.AbstractAsyncContextManager[Any] = contextlib.nullcontext()
        # Parameters are hidden from errors and logs: they are people's texts.
        if self.is_sqlite:
            self._database = create_async_engine(self.url, hide_parameters=True)
            prepare = partial(_prepare_sqlite, settings.statement_timeout_s)
            sa.event.listen(self._database.sync_engine, "connect", prepare)
            sa.event.listen(self._database.sync_engine, "begin", _begin_sqlite)
            sa.event.listen(self._database.sync_engine, "close", _unlock_sqlite)
            self._write_lock = asyncio.Lock()  # one writer a process queues here, instead of polling the file's lock
        else:
            limits = {"timeout": settings.connect_timeout_s, "command_timeout": settings.statement_timeout_s}
            self._database = create_async_engine(
                self.url, hide_parameters=True, pool_pre_ping=True, connect_args=limits
            )
        self._writing = self._database.execution_options(begin="BEGIN IMMEDIATE")
        apart = {"begin": None} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._outside_transactions = self._database.execution_options(**apart)
        self._errors = _driver_errors(self.is_sqlite)

    def __str__(self) -> str:
        """Return the address, without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def folder(self) -> Path:
        """Return the folder that the database stands in, and what is kept beside it."""
        return Path(self.url.database or "").parent if self.is_sqlite else self._folder

    @property
    def exists(self) -> bool:
        """Say whether there is something to open: a SQLite file is made when it is missing, a server is not."""
        return not self.is_sqlite or Path(self.url.database or "").exists()

    async def __aenter__(self) -> Self:
        with self._told():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.is_sqlite:
                _make_private(self.url.database or "")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.dispose()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Give a session that sees one moment of the database. Raises StoreError."""
        with self._told():
            async with AsyncSession(self._database, expire_on_commit=False) as session:
                yield session

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Give a session whose changes are durable when the block ends, or undone by an error. Raises StoreError."""
        with self._told():
            async with self._write_lock, AsyncSession(self._writing, expire_on_commit=False) as session:
                yield session
                await _complete(session.commit())  # left half way, it would leave a connection the pool must throw away

    async def upsert(self, session: AsyncSession, table: type[DeclarativeBase], rows: list[dict[str, Any]]) -> None:
        """Insert rows, or overwrite those that stand under the same primary key."""
        insert = self._insert(table)
        columns, key = insert.table.columns, insert.table.primary_key
        others = {column.name: insert.excluded[column.name] for column in columns if not column.primary_key}
        await session.execute(insert.on_conflict_do_update(index_elements=key, set_=others), rows)

    async def insert_new(self, session: AsyncSession, table: type[DeclarativeBase], rows: list[dict[str, Any]]) -> None:
        """Insert rows, except those whose primary key stands already."""
        await session.execute(self._insert(table).on_conflict_do_nothing(), rows)

    async def lock(self, session: AsyncSession, table: type[DeclarativeBase]) -> None:
        """Keep everybody else from reading and writing a table until the session ends. SQLite has one writer anyway."""
        if not self.is_sqlite:
            await session.execute(sa.text(f"LOCK TABLE {table.__tablename__} IN ACCESS EXCLUSIVE MODE"))

    def _insert(self, table: type[DeclarativeBase]) -> sqlite.Insert | postgresql.Insert:
        core = table.__table__
        assert isinstance(core, sa.Table)
        return sqlite.insert(core) if self.is_sqlite else postgresql.insert(core)

    async def reclaim(self) -> None:
        """Return the room of deleted rows, and clear their text from SQLite's write-ahead log."""
        with self._told():
            async with self._write_lock, self._outside_transactions.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                if self.is_sqlite:
                    # Not execute: it stops after a step, and the vacuum takes one for every page.
                    await driver.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
                    return
                for table in Base.metadata.tables:
                    await driver.execute(f"VACUUM {table}", timeout=_VACUUM_S)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn every error of a driver into a StoreError that says where and why."""
        try:
            yield
        except self._errors as error:
            if _is_about_the_rows(error):  # drivers repeat the refused value, which may be somebody's text
                raise RowsRefusedError(f"the database {self} refused a row: {type(error).__name__}") from None
            raise StoreError(f"cannot use the database {self}: {_reason(error)}") from error


async def delete_rows(session: AsyncSession, table: type[DeclarativeBase], *which: sa.ColumnElement[bool]) -> int:
    """Delete rows; return how many."""
    gone = await session.execute(sa.delete(table).where(*which), execution_options={"synchronize_session": False})
    return int(gone.rowcount)  # type: ignore[attr-defined]


def _parse_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except ArgumentError as error:
        # The text may hold a password, so it is not repeated.
        raise ConfigError("database.url must look like sqlite:///data/file.sqlite3 or postgresql://…") from error
    backend = url.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise ConfigError(f"database.url must begin with sqlite or postgresql, got {url.drivername}")
    url = url.set(drivername=_DRIVERS[backend])
    if backend == "postgresql":  # what libpq knows stands in addresses that hosts give out
        mode = url.query.get("sslmode")
        url = url.difference_update_query(["sslmode", "channel_binding"])
        url = url if mode is None else url.update_query_dict({"ssl": mode})
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigError("database.url must name a file, got a database in memory: its log would not last")
    return url


def _make_private(path: str) -> None:
    """Make the file where there is none, for its owner alone; SQLite gives its side files the same mode.

    One that exists is not even opened: closing it again would drop the locks that SQLite holds on it anywhere in this
    process (POSIX), and another process would then take away the write-ahead log under our feet, commits and all.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


async def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, even if the task that waits for it is cancelled meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _prepare_sqlite(timeout_s: float, connection: Any, _: Any) -> None:
    connection.isolation_level = None  # pysqlite's own BEGIN comes too late for DDL and for BEGIN IMMEDIATE
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {round(timeout_s * 1000)}")  # while another process writes
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.execute("PRAGMA page_count")
    if cursor.fetchone()[0] == 0:  # elsewhere it has no effect and waits for a writer
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")  # lets retention give pages back
    cursor.execute("PRAGMA journal_mode")
    if cursor.fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE for writers: a transaction that reads first and writes later fails at once beside another writer.
    begin = connection.get_execution_options().get("begin", "BEGIN")
    if begin:
        connection.exec_driver_sql(begin)


def _unlock_sqlite(connection: Any, _: Any) -> None:
    # A statement that was cancelled half way keeps a closed connection, with its locks, until it is garbage collected.
    connection.rollback()


def _driver_errors(is_sqlite: bool) -> tuple[type[Exception], ...]:
    if is_sqlite:
        return (SQLAlchemyError, OSError, UnicodeEncodeError, sqlite3.Error)  # `reclaim` asks the driver itself
    import asyncpg  # SQLAlchemy does not wrap what asyncpg raises while connecting

    return (SQLAlchemyError, OSError, UnicodeEncodeError, asyncpg.PostgresError, asyncpg.InterfaceError)


def _is_about_the_rows(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return isinstance(error, StatementError | UnicodeEncodeError)
    # SQLAlchemy does not know asyncpg's own DataError, for a value that asyncpg cannot encode, from an outage.
    unencodable = any(kind.__name__ == "DataError" for kind in type(error.orig and error.orig.__cause__).__mro__)
    return unencodable or isinstance(error, DataError | IntegrityError)


def _reason(error: Exception) -> str:
    cause = str(error.orig if isinstance(error, DBAPIError) else error) or type(error).__name__
    if re.search(r"no such (table|column)|(relation|column) .* does not exist", cause):
        return f"{cause}; bring it up to date with `python -m migrations`"
    if re.search(r"readonly|unable to open|Permission denied", cause):
        return f"{cause}; make the file and its folder writable for this user"
    if isinstance(error, ConnectionError):
        return f"{cause}; start it, or correct DATABASE_URL"
    return cause
