"""The spool: a bounded file that keeps finished rows, in order and fsynced, while the database is away.

Its room is taken on disk when it is opened, so that a disk that fills up later does not stop it. A record is its
length, its CRC-32 and its JSON; a length of zero ends the file. One process owns a spool (flock); another adopts what
a dead one left.
"""

import fcntl
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from ..errors import StoreError

log = logging.getLogger(__name__)

_MAGIC = b"fablewright spool 1\n"
_HEAD = struct.Struct(">II")  # length and CRC-32 of the JSON that follows

Row = dict[str, Any]


class Spool:
    """Rows on disk. Every method blocks on the disk: call them in a thread. All raise StoreError."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self.size_bytes = os.fstat(file).st_size
        self.used_bytes = 0  # of records

    @classmethod
    def create(cls, folder: Path, name: str, size_bytes: int) -> Self:
        """Make a new, empty spool and take its room."""
        path = folder / f"{name}.spool"
        unlocked = path.with_suffix(".new")  # nobody may adopt it before its lock is held
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            os.pwrite(file, _MAGIC, 0)
            _take_room(file, size_bytes)
            os.fsync(file)
            unlocked.rename(path)
            _sync_folder(folder)
        except OSError as error:
            if unlocked.exists():
                unlocked.unlink()
                os.close(file)
            raise StoreError(f"cannot make the spool {path} of {size_bytes} bytes: {error.strerror}") from error
        return cls(path, file)

    @classmethod
    def adopt(cls, folder: Path, names: str) -> "Iterator[Spool]":
        """Give every spool in `folder` that matches `names` and whose process is gone.

        What is not a whole record is set aside, not lost.
        """
        for path in sorted(folder.glob(f"{names}.spool")):
            try:
                file = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue  # its owner closed it just now
            except OSError as error:
                raise StoreError(
                    f"cannot read the spool {path}: {error.strerror}; it holds rows of the log: "
                    "make it readable for this user, or move it away to go on without them"
                ) from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            if os.fstat(file).st_nlink == 0:  # its owner emptied and removed it just now
                os.close(file)
                continue
            spool = cls(path, file)
            spool._measure()
            yield spool

    @property
    def room_bytes(self) -> int:
        """Return how many bytes of records still fit."""
        return self.size_bytes - len(_MAGIC) - _HEAD.size - self.used_bytes

    def append(self, rows: list[Row]) -> None:
        """Keep rows; they are on disk when this returns, and none of them is kept when it raises."""
        records = b"".join(map(_record, rows))
        if len(records) > self.room_bytes:
            raise StoreError(f"the spool {self.path} is full: {self.used_bytes} of {self.size_bytes} bytes used")
        end = len(_MAGIC) + self.used_bytes
        try:
            _write(self._file, records + bytes(_HEAD.size), end)
            os.fsync(self._file)
        except OSError as error:
            raise StoreError(f"cannot write to the spool {self.path}: {error.strerror}") from error
        self.used_bytes += len(records)

    def rows(self, start: int = 0) -> Iterator[tuple[Row, int]]:
        """Give every row from `start` on, and where the next one begins."""
        while start < self.used_bytes:
            read = self._read(start)
            assert read is not None  # appended by us, or measured
            yield read
            start = read[1]

    def clear(self) -> None:
        """Forget every row: they are in the database. Their text is overwritten."""
        try:
            _write(self._file, bytes(self.used_bytes), len(_MAGIC))
            os.fsync(self._file)
        except OSError as error:
            raise StoreError(f"cannot clear the spool {self.path}: {error.strerror}") from error
        self.used_bytes = 0

    def close(self) -> None:
        """Let go of the file; an empty one is removed."""
        if self.used_bytes == 0:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def _read(self, start: int) -> tuple[Row, int] | None:
        """Return the row at `start` and where it ends, or None where no whole record stands."""
        head = os.pread(self._file, _HEAD.size, len(_MAGIC) + start)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        content = os.pread(self._file, length, len(_MAGIC) + start + _HEAD.size)
        if not 0 < length == len(content) or zlib.crc32(content) != checksum:
            return None
        return json.loads(content), start + _HEAD.size + length

    def _measure(self) -> None:
        """Find where the whole records end. Anything behind them is a torn write or damage: keep a copy of the file."""
        if os.pread(self._file, len(_MAGIC), 0) == _MAGIC:
            while read := self._read(self.used_bytes):
                self.used_bytes = read[1]
        content = self.path.read_bytes()
        if content.removeprefix(_MAGIC)[self.used_bytes :].strip(b"\0"):
            aside = self.path.with_suffix(".damaged")
            aside.write_bytes(content)
            log.warning("spool damaged: path=%s sound_bytes=%d copy=%s", self.path, self.used_bytes, aside)


def _record(row: Row) -> bytes:
    content = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def _take_room(file: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
    else:
        _write(file, bytes(size_bytes - len(_MAGIC)), len(_MAGIC))


def _write(file: int, content: bytes, start: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, start)
        view, start = view[written:], start + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
