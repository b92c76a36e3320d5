"""docs/operating.md, carried out: its own commands, beside a server that people are writing with."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from core.store import DatabaseSettings
from tests.faults.server import REPOSITORY, Server
from tests.faults.size import sqlite_will_do
from tests.faults.visitors import Crowd, Told, check_log, rows, until, write
from tests.fixtures.databases import PostgresServer
from tests.tiny import make_tiny_checkpoint

VISITORS = 20


def command(name: str) -> str:
    """Return the commands of the block that docs/operating.md labels with a name."""
    document = (REPOSITORY / "docs" / "operating.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```sh {name}\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    return str(block)


async def carry_out(server: Server, name: str) -> None:
    """Run a block of the document in the server's folder; it must succeed."""
    code, told = await server.run(f"set -e\n{command(name)}")
    assert code == 0, told


@pytest.fixture
def sqlite(tmp_path: Path) -> DatabaseSettings:
    """The database where config.toml puts it: in data/, below the folder that the server runs in."""
    return DatabaseSettings(url=f"sqlite:///{tmp_path}/data/fablewright.sqlite3")


async def test_a_sqlite_backup_made_under_load_restores_what_was_acknowledged_before_it(
    sqlite: DatabaseSettings, new_server: Callable[..., Server]
) -> None:
    await _back_up_and_restore(new_server(sqlite), sqlite, "sqlite")


@pytest.mark.postgres
async def test_a_postgresql_backup_made_under_load_restores_what_was_acknowledged_before_it(
    postgres_server: PostgresServer, new_server: Callable[..., Server]
) -> None:
    database = DatabaseSettings(url=postgres_server.new_whole_database())
    server = new_server(database)
    server.environment["PATH"] = os.pathsep.join([str(postgres_server.binaries), server.environment["PATH"]])
    await _back_up_and_restore(server, database, "postgresql")


async def _back_up_and_restore(server: Server, database: DatabaseSettings, kind: str) -> None:
    crowd = Crowd(server.url)
    async with server:
        async with crowd.writing(VISITORS, max_tokens=40):
            await until(lambda: len(crowd.acknowledged) >= 2 * VISITORS)
            before = crowd.acknowledged
            await carry_out(server, f"backup-{kind}")
            enough = len(crowd.acknowledged) + 2 * VISITORS
            await until(lambda: len(crowd.acknowledged) >= enough)
        assert await server.end(signal.SIGTERM) == 0
        await carry_out(server, f"restore-{kind}")
        await check_log(database, before)
        restored = {row.prompt for row in await rows(database)}
        assert any(told.prompt not in restored for told in crowd.acknowledged), "nothing was set back"
        await server.start()
        async with crowd.writing(VISITORS, max_tokens=40):
            enough = len(crowd.acknowledged) + VISITORS
            await until(lambda: len(crowd.acknowledged) >= enough)
        assert not crowd.errors
        code, told = await server.run("python -m web doctor", FABLEWRIGHT_WEB__PORT="0")
        assert code == 0, told


@sqlite_will_do
async def test_a_restart_under_load_refuses_no_connection_and_breaks_no_stream_off(
    database_settings: DatabaseSettings, new_server: Callable[..., Server]
) -> None:
    async with new_server(database_settings, engine__shutdown_grace_s="60") as server:
        crowd = Crowd(server.url)
        async with crowd.writing(VISITORS, max_tokens=40, pace=60):
            await until(lambda: len(crowd.acknowledged) >= VISITORS)
            assert await server.hand_over_to(command("restart")) == 0
            enough = len(crowd.acknowledged) + 2 * VISITORS
            await until(lambda: len(crowd.acknowledged) >= enough)
        _check_that_nobody_noticed(crowd)
        await check_log(database_settings, crowd.told, within_s=5)


async def test_a_checkpoint_swapped_under_load_breaks_no_stream_off(
    sqlite: DatabaseSettings, new_server: Callable[..., Server], checkpoints: Path, tmp_path: Path
) -> None:
    shelf = tmp_path / "shelf"
    shutil.copytree(checkpoints, shelf)
    async with new_server(sqlite, checkpoint__folders=json.dumps([str(shelf)])) as server:
        crowd = Crowd(server.url)
        async with crowd.writing(VISITORS, max_tokens=40, pace=60):
            before = await _the_same_again(server)
            await until(lambda: len(crowd.acknowledged) >= VISITORS)
            await asyncio.to_thread(make_tiny_checkpoint, tmp_path / "new", steps=30)
            (shelf / "tiny").rename(tmp_path / "old")
            (tmp_path / "new").rename(shelf / "tiny")
            assert server.process is not None
            server.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(120):
                while await _the_same_again(server) == before:
                    pass
            enough = len(crowd.acknowledged) + 2 * VISITORS
            await until(lambda: len(crowd.acknowledged) >= enough)
        _check_that_nobody_noticed(crowd)
        await check_log(sqlite, crowd.told, within_s=5)


def _check_that_nobody_noticed(crowd: Crowd) -> None:
    assert not crowd.errors
    assert not crowd.broken_off
    assert crowd.refused == 0
    assert {told.reason for told in crowd.acknowledged} <= {"length", "end"}


async def _the_same_again(server: Server) -> str:
    """Return a text that only the checkpoint decides."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as socket:
        told = Told(prompt="Once upon a time")
        await write(socket, told, max_tokens=30, seed=1)
        assert told.reason is not None
        return told.text
