"""/healthz and /readyz, through good days and bad."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import cast

import pytest

from core.engine import Engine
from tests.web.conftest import Site, StartSite


async def test_a_server_that_has_loaded_its_model_is_alive_and_ready(site: Site) -> None:
    await site.engines.get()
    for path in ("/healthz", "/readyz"):
        assert await site.get(path) == {"ok": True, "checkpoint": "tiny", "problems": []}


async def test_before_the_model_is_loaded_it_is_neither(site: Site) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await site.get(path, 503))["problems"] == ["no checkpoint is loaded"]


async def test_one_whose_engine_has_left_by_itself_is_neither_and_takes_no_text(site: Site) -> None:
    worker = cast(Engine, await site.engines.get())._worker
    assert worker is not None
    worker.close(0)
    await asyncio.wrap_future(worker.ended)
    for path in ("/healthz", "/readyz"):
        assert (await site.get(path, 503))["problems"] == ["the engine of tiny has stopped"]
    async with site.connect() as desk:
        assert (await desk.write()).end["code"] == "closed"


async def test_one_that_is_leaving_is_alive_but_not_ready(site: Site) -> None:
    await site.engines.get()
    site.web.drain()
    await site.get("/healthz")
    assert (await site.get("/readyz", 503))["problems"] == ["the server is shutting down"]
    async with site.client.get(f"{site.url}/healthz") as response:
        assert response.headers["Connection"] == "close"  # its successor answers what comes next


async def test_a_database_of_another_version_is_not_ready(start_site: StartSite, tmp_path: Path) -> None:
    site = await start_site()
    await site.engines.get()

    def set_version() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "data/test.sqlite3")) as database, database:
            database.execute("UPDATE alembic_version SET version_num = '0000'")

    # In a thread: a transaction that the server has open ends only while its event loop runs.
    await asyncio.to_thread(set_version)
    assert (await site.get("/readyz", 503))["problems"] == [
        "the database is not up to date: run `python -m migrations`"
    ]


async def test_while_the_log_waits_in_the_spool_the_server_is_not_ready(site: Site) -> None:
    await site.engines.get()
    site.store.log._away_since = 1.0
    problems = (await site.get("/readyz", 503))["problems"]
    site.store.log._away_since = None
    assert problems == ["the prompt log cannot be written: its rows wait in the spool"]


async def test_where_the_database_is_stays_in_the_log(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await site.engines.get()
    (tmp_path / "data/test.sqlite3").rename(tmp_path / "data/away.sqlite3")
    (tmp_path / "data/test.sqlite3").mkdir()
    assert (await site.get("/readyz", 503))["problems"] == ["the database cannot be used"]
    assert str(tmp_path) in caplog.text
