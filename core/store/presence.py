"""Which processes write the log now, so that what a dead one left running can be marked interrupted.

Each writer says that it is there every few seconds. One on this machine whose process is gone is known to be dead at
once; one elsewhere is held dead after a minute of silence. A mistake heals itself: the row is written over when its
generation finishes.
"""

import os
import socket
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from ..tables import Fact, Generation, LogWriter
from .database import Database

BEAT_S = 15.0
_SILENCE = timedelta(seconds=60)


class Presence:
    """This process among the writers of the log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.writer_id = uuid.uuid4().hex
        self._host = socket.gethostname()[:255]

    async def beat(self) -> int:
        """Say that this writer is there; return how many generations of dead ones were marked interrupted."""
        now = datetime.now(UTC)
        me = LogWriter.__table__.c
        row = {"id": self.writer_id, "host": self._host, "pid": os.getpid(), "started": _started(os.getpid())}
        async with self._database.write() as session:
            await self._database.upsert(session, LogWriter, [row | {"seen_at": now}])
            writers = (await session.scalars(sa.select(LogWriter))).all()
            dead = [writer.id for writer in writers if self._is_dead(writer, now)]
            await session.execute(sa.delete(LogWriter).where(me.id.in_(dead)))
            orphaned = sa.and_(Generation.reason == "running", Generation.writer_id.not_in(sa.select(me.id)))
            marked = await session.execute(
                sa.update(Generation).where(orphaned).values(reason="interrupted").returning(Generation.request_id)
            )
            return len(marked.all())

    async def claim(self, role: str) -> LogWriter | None:
        """Take a role that one writer has at a time; return the living one that has it already, else None."""
        async with self._database.write() as session:
            await self._database.insert_new(session, Fact, [{"name": role, "value": self.writer_id}])
            holder = await session.get_one(Fact, role, with_for_update=True)
            other = await session.get(LogWriter, holder.value)
            if other is not None and other.id != self.writer_id and not self._is_dead(other, datetime.now(UTC)):
                return other
            holder.value = self.writer_id
            return None

    async def leave(self) -> None:
        """Say that this writer is gone."""
        async with self._database.write() as session:
            await session.execute(sa.delete(LogWriter).where(LogWriter.id == self.writer_id))

    def _is_dead(self, writer: LogWriter, now: datetime) -> bool:
        if now - writer.seen_at > _SILENCE:
            return True
        return writer.host == self._host and _started(writer.pid) != writer.started


def _started(pid: int) -> str:
    """Return when a process began, in a form that tells two of the same number apart; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        pass
    try:  # a system without /proc: the number alone must do
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"
