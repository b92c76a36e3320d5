"""The disk fills up under load: what was acknowledged is kept, what cannot be kept is refused, and room heals it."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.visitors import Crowd, Told, check_log, until

_DISK_MB = 8


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, a few megabytes large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_loses_nothing_that_was_acknowledged(
    small_disk: Path, new_server: Callable[..., Server]
) -> None:
    database = DatabaseSettings(url=f"sqlite:///{small_disk}/fablewright.sqlite3")
    async with new_server(database, log__spool_mb="1") as server:
        crowd = Crowd(server.url)
        ballast = small_disk / "ballast"
        async with crowd.writing(40, max_tokens=800):
            await asyncio.sleep(1)
            _fill(ballast)
            await until(lambda: bool(crowd.errors))
            ballast.unlink()
            acknowledged = len(crowd.acknowledged)
            await until(lambda: len(crowd.acknowledged) > acknowledged + 10)
        assert set(crowd.errors) == {"store_unavailable"}
        await check_log(database, _certain(crowd.told), within_s=15)


def _certain(told: list[Told]) -> list[Told]:
    return [one for one in told if one.error is None]


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            return
