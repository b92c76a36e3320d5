"""The prompt log: one row a generation, durable before anybody is told that it is done.

Rows that arrive while a batch is being committed form the next batch: one commit serves them all (group commit). While
the database is away, finished rows go to the spool and are replayed in order when it is back; a row is written under
its request's id, so that one replayed twice is still one row. When the spool is full, new requests are refused.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from ..errors import StoreError
from ..tables import Forgotten, Generation, LogWriter
from .database import Database, RowsRefusedError
from .facts import Facts
from .presence import BEAT_S, Presence
from .spool import Row, Spool

log = logging.getLogger(__name__)

_BATCH = 500  # rows a commit
_RETRY_S = 1.0  # between two tries to reach a database that is away
_NEVER = datetime.min.replace(tzinfo=UTC)

_Batch = list[tuple[Row, asyncio.Future[None] | None]]  # a future where somebody waits for the row to be durable


class LogSettings(BaseModel):
    """`[log]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_text: bool = True
    retention_days: int = Field(default=90, ge=0, le=36_500)
    spool_mb: int = Field(default=32, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStats:
    """For the metrics: counts since the start, and how things stand."""

    rows: int
    commits: int
    commit_s: float  # in all of them
    waiting: int
    spooled_rows: int
    spool_used_bytes: int
    spool_size_bytes: int
    is_database_away: bool
    interrupted: int  # generations of dead processes that were marked


class Log:
    """`start(row)` when a generation begins, `await finish(row)` before its end is told."""

    def __init__(self, database: Database, settings: LogSettings) -> None:
        self._database = database
        self._settings = settings
        self._presence = Presence(database)
        self._spools = database.folder / "spool"
        self._spool: Spool
        self._spool_lock = asyncio.Lock()
        self._queue: _Batch = []
        self._has_work = asyncio.Event()
        self._open: dict[str, int] = {}  # request id -> bytes its row may take in the spool
        self._away_since: float | None = None
        self._is_closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._rows = self._commits = self._spooled_rows = self._interrupted = 0
        self._commit_s = 0.0

    @property
    def writer_id(self) -> str:
        """Return the name under which this process writes."""
        return self._presence.writer_id

    async def __aenter__(self) -> Self:
        # Several databases may share a folder: a spool is replayed to the one it was written for alone.
        self._database_id = await Facts(self._database).settle("database_id", uuid.uuid4().hex)
        self._interrupted += await self._presence.beat()
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self._say_goodbye)
            name, size_bytes = f"{self._database_id}-{self.writer_id}", self._settings.spool_mb * 2**20
            self._spool = await asyncio.to_thread(Spool.create, self._spools, name, size_bytes)
            undo.callback(self._spool.close)
            await self._adopt()
            undo.pop_all()
        self._writing = asyncio.create_task(self._write_batches(), name="log-writer")
        self._beating = asyncio.create_task(self._beat(), name="log-beat")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_closing = True
        self._has_work.set()
        await self._writing
        for task in (self._beating, *self._tasks):
            task.cancel()
        await asyncio.gather(self._beating, *self._tasks, return_exceptions=True)
        await self._say_goodbye()
        await asyncio.to_thread(self._spool.close)

    async def claim(self, role: str) -> LogWriter | None:
        """Take a role that one process has at a time; return the living process that has it already, else None."""
        return await self._presence.claim(role)

    def start(self, row: Generation) -> None:
        """Mark a generation as running, soon. Raises StoreError when its end could not be kept."""
        need = 2048 + 2 * len((row.prompt or "").encode()) + 32 * row.max_tokens
        if self._away_since is not None and self._spool.room_bytes - sum(self._open.values()) < need:
            raise StoreError(
                "the log is full: the database has been away for "
                f"{time.monotonic() - self._away_since:.0f} s and the spool cannot hold more; try again later"
            )
        self._open[row.request_id] = need
        self._put(_values(row), None)

    async def finish(self, row: Generation) -> None:
        """Return when the row is durable. Raises StoreError when neither database nor spool could take it."""
        self._open.pop(row.request_id, None)
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_values(row), kept)
        await kept

    async def rows(self, *, limit: int = 100) -> Sequence[Generation]:
        """Return rows, the newest first."""
        query = sa.select(Generation).order_by(Generation.started_at.desc()).limit(limit)
        async with self._database.read() as session:
            return (await session.scalars(query)).all()

    async def count(self, *, user_key: str, guild_key: str | None, since: datetime) -> int:
        """Return how many generations a user began in one guild; None is outside of guilds."""
        where = (Generation.user_key == user_key, Generation.guild_key == guild_key, Generation.started_at >= since)
        query = sa.select(sa.func.count()).where(*where)
        async with self._database.read() as session:
            return await session.scalar(query) or 0

    def stats(self) -> LogStats:
        """Return the counts of this process."""
        return LogStats(
            rows=self._rows,
            commits=self._commits,
            commit_s=self._commit_s,
            waiting=len(self._queue),
            spooled_rows=self._spooled_rows,
            spool_used_bytes=self._spool.used_bytes,
            spool_size_bytes=self._spool.size_bytes,
            is_database_away=self._away_since is not None,
            interrupted=self._interrupted,
        )

    def _put(self, row: Row, kept: asyncio.Future[None] | None) -> None:
        if self._is_closing:
            raise StoreError("the log is closed")
        self._queue.append((row, kept))
        self._has_work.set()

    async def _write_batches(self) -> None:
        while True:
            await self._has_work.wait()
            batch, self._queue = self._queue[:_BATCH], self._queue[_BATCH:]
            if not self._queue and not self._is_closing:
                self._has_work.clear()
            if not batch:
                return
            try:
                await self._write(batch)
            except Exception as error:  # the log must outlive any one batch
                log.exception("log batch failed: rows=%d", len(batch))
                _tell(batch, dict.fromkeys(_ids(batch), StoreError(f"the log failed: {error}")))

    async def _write(self, batch: _Batch) -> None:
        if self._away_since is None:
            try:
                return _tell(batch, await self._to_database([row for row, _ in batch]))
            except StoreError as error:
                self._leave(error)
        async with self._spool_lock:
            if self._away_since is not None:
                return await self._to_spool([(row, kept) for row, kept in batch if kept is not None])
        return await self._write(batch)  # the database came back just now

    async def _to_database(self, rows: list[Row]) -> dict[str, StoreError]:
        """Write rows, the last of each request; return those the database refuses, which must not take others along."""
        latest = list({row["request_id"]: row for row in rows}.values())
        try:
            await self._commit(latest)
            return {}
        except RowsRefusedError:
            pass
        refused: dict[str, StoreError] = {}
        for row in latest:
            try:
                await self._commit([row])
            except RowsRefusedError as error:
                log.error("log row refused: request_id=%s reason=%s", row["request_id"], error)
                refused[row["request_id"]] = error
        return refused

    async def _commit(self, rows: list[Row]) -> None:
        began = time.monotonic()
        async with self._database.write() as session:
            query = sa.select(Forgotten).where(Forgotten.user_key.in_({row["user_key"] for row in rows} - {None}))
            forgotten = {gone.user_key: gone.forgotten_at for gone in await session.scalars(query)}
            kept = [row for row in rows if row["started_at"] > forgotten.get(row["user_key"], _NEVER)]
            if kept:
                await self._database.upsert(session, Generation, kept)
        self._rows += len(kept)
        self._commits += 1
        self._commit_s += time.monotonic() - began

    async def _to_spool(self, finished: _Batch) -> None:
        """Keep finished rows on disk. What only began is not kept: nobody was told anything about it."""
        if not finished:
            return
        try:
            await asyncio.to_thread(self._spool.append, [_to_json(row) for row, _ in finished])
        except StoreError as error:
            log.error("log rows not kept: rows=%d reason=%s", len(finished), error)
            _tell(finished, dict.fromkeys(_ids(finished), error))
        else:
            self._spooled_rows += len(finished)
            _tell(finished)

    def _leave(self, error: StoreError) -> None:
        log.warning("database away: %s; finished rows go to the spool %s", error, self._spool.path)
        self._away_since = time.monotonic()
        task = asyncio.create_task(self._come_back(), name="log-replay")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _come_back(self) -> None:
        """Replay the spool once the database answers, then let rows go there directly again."""
        replayed = 0
        while True:
            await asyncio.sleep(_RETRY_S)
            try:
                await self._presence.beat()
                replayed = await self._replay(self._spool, replayed)
                async with self._spool_lock:
                    if self._spool.used_bytes == replayed:
                        self._spool.clear()  # not in a thread, which would go on beside a log that is being closed
                        log.info("database back: spooled_bytes=%d replayed", replayed)
                        self._away_since = None
                        return
            except StoreError as error:
                log.debug("database still away: %s", error)
            except Exception:  # whatever it is, rows wait in the spool: try on
                log.exception("spool not replayed: path=%s", self._spool.path)

    async def _replay(self, spool: Spool, start: int) -> int:
        """Write the spool's rows from `start` on to the database; return where the last one ends."""
        while True:
            batch: list[Row] = []
            for row, end in spool.rows(start):
                batch.append(_from_json(row))
                start = end
                if len(batch) == _BATCH:
                    break
            if not batch:
                return start
            await self._to_database(batch)

    async def _adopt(self) -> None:
        """Replay what dead processes left."""
        for spool in Spool.adopt(self._spools, f"{self._database_id}-*"):
            try:
                end = await self._replay(spool, 0)
                spool.clear()  # not in a thread: see _come_back
                log.info("spool adopted: path=%s bytes=%d", spool.path, end)
            finally:
                spool.close()

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(StoreError):  # others will find this process gone
            await self._presence.leave()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                self._interrupted += await self._presence.beat()
                await self._adopt()  # the next start may be long in coming
            except StoreError as error:  # the batches notice too, and act
                log.debug("no beat: %s", error)
            except Exception:  # whatever it is, others must hear the next beat
                log.exception("beat failed")


def _tell(batch: _Batch, errors: Mapping[str, StoreError] = MappingProxyType({})) -> None:
    for row, kept in batch:
        if kept is None or kept.done():
            continue
        error = errors.get(row["request_id"])
        if error is None:
            kept.set_result(None)
        else:
            kept.set_exception(error)


def _ids(batch: _Batch) -> list[str]:
    return [row["request_id"] for row, _ in batch]


def _values(row: Generation) -> Row:
    return {column.name: getattr(row, column.name) for column in Generation.__table__.columns}


def _to_json(row: Row) -> dict[str, Any]:
    return row | {"started_at": row["started_at"].isoformat()}


def _from_json(row: dict[str, Any]) -> Row:
    return row | {"started_at": datetime.fromisoformat(row["started_at"])}
