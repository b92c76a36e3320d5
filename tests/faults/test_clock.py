"""The clock of the wall jumps a day ahead and a day back under load: nobody's text, limits or log rows suffer."""

import glob
from collections.abc import Callable
from pathlib import Path

import pytest

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import sqlite_will_do
from tests.faults.visitors import Crowd, check_log, rows, until

_LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")


@sqlite_will_do
async def test_streams_and_log_survive_jumps_of_a_day(
    database_settings: DatabaseSettings, new_server: Callable[..., Server], tmp_path: Path
) -> None:
    if not _LIBRARIES:
        pytest.skip("libfaketime is not installed (Debian: apt-get install libfaketime)")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    server = new_server(database_settings)
    try:
        await server.start(
            LD_PRELOAD=_LIBRARIES[0],
            FAKETIME_TIMESTAMP_FILE=str(clock),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",  # nobody can set that clock
        )
        crowd = Crowd(server.url)
        async with crowd.writing(15, max_tokens=30, pace=40):
            for jump in ("+0", "+1d", "-1d", "+0"):
                clock.write_text(jump)
                enough = len(crowd.acknowledged) + 15
                await until(lambda enough=enough: len(crowd.acknowledged) >= enough)
        assert not crowd.errors
        await check_log(database_settings, crowd.told, within_s=5)
        log = await rows(database_settings)
        days = {row.started_at.date() for row in log}
        assert len(days) >= 3, "the jumps never reached the server"
        assert all(0 <= row.duration_s < 60 for row in log if row.duration_s is not None)
        assert "interrupted" not in {row.reason for row in log}
    finally:
        await server.kill()
