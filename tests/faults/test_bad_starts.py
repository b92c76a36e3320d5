"""What cannot start says why and what to do next, ends with a code other than 0, and leaves everything as it was."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import migrations
from core.store import DatabaseSettings, Store
from tests.faults.server import REPOSITORY, Server
from tests.faults.size import IS_FULL
from tests.tiny import other_tokenizer


@pytest.fixture(params=["web serve", "bot"] if IS_FULL else ["web serve"])
def program(request: pytest.FixtureRequest) -> str:
    """Both programs open store and checkpoint the same way; the short form tries one."""
    return f"python -m {request.param}"


@pytest.fixture
async def database(tmp_path: Path) -> DatabaseSettings:
    """The database of an installation that has run before."""
    database = DatabaseSettings(url=f"sqlite:///{tmp_path}/data/log.sqlite3")
    await migrations.upgrade(database)
    async with Store(database):
        pass
    return database


@pytest.fixture
def server(database: DatabaseSettings, new_server: Callable[..., Server]) -> Server:
    """The installation; nothing of it runs."""
    server = new_server(database)
    server.environment["DISCORD_TOKEN"] = "never-sent: what is wrong here is found before anybody is called"
    return server


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "database.url must look like sqlite:///data/file.sqlite3 or postgresql://…"),
        ("mysql://fable:hunter2@localhost/x", "database.url must begin with sqlite or postgresql, got mysql"),
        ("postgresql://fable:hunter2@127.0.0.1:1/none", "Connect call failed ('127.0.0.1', 1); start it, or correct"),
        ("sqlite:////proc/none/log.sqlite3", "cannot use the database sqlite+aiosqlite:////proc/none/log.sqlite3: "),
    ],
)
async def test_a_wrong_database_url(server: Server, program: str, url: str, says: str) -> None:
    told = await _refused(server, program, DATABASE_URL=url)
    assert says in told
    assert "hunter2" not in told


async def test_a_database_newer_than_the_code(server: Server, program: str) -> None:
    with _opened(server) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    told = await _refused(server, program)
    assert "it was written by a newer version; install that version, or restore a backup" in told


async def test_a_migration_that_fails_half_way(server: Server, program: str) -> None:
    """The first migration meets a table of somebody else's after it has made others."""
    with _opened(server) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            database.execute(f"DROP TABLE {name}")
        database.execute("CREATE TABLE stories (mine TEXT)")
        database.execute("INSERT INTO stories VALUES ('keep this')")
    told = await _refused(server, program)
    assert "table stories already exists; nothing was changed, so the version before still runs with it" in told


async def test_a_checkpoint_with_the_tokenizer_of_another(
    server: Server, program: str, checkpoints: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoints, tmp_path / "shelf")
    other = other_tokenizer()  # of the same size, so that every shape fits
    (tmp_path / "shelf" / "tiny" / "tokenizer.model").write_bytes(other.to_bytes())
    shelf = json.dumps([str(tmp_path / "shelf")])
    told = await _refused(server, program, FABLEWRIGHT_CHECKPOINT__FOLDERS=shelf)
    assert "tokenizer.model is not the tokenizer that config.json names by its SHA-256; copy the whole folder" in told


@pytest.mark.parametrize(("key", "misspelt"), [("slots", "slot"), ("retention_days", "retention_day")])
async def test_a_misspelt_key(server: Server, program: str, tmp_path: Path, key: str, misspelt: str) -> None:
    text = (REPOSITORY / "config.toml").read_text(encoding="utf-8")
    assert text.count(f"\n{key} = ") == 1
    (tmp_path / "config.toml").write_text(text.replace(f"\n{key} = ", f"\n{misspelt} = "), encoding="utf-8")
    told = await _refused(server, program, FABLEWRIGHT_CONFIG=str(tmp_path / "config.toml"))
    assert f"{misspelt} is an unknown key; did you mean {key}?" in told


async def test_a_spool_that_cannot_be_read(server: Server, program: str, tmp_path: Path) -> None:
    with _opened(server) as database:
        ((database_id,),) = database.execute("SELECT value FROM facts WHERE name = 'database_id'").fetchall()
    spool = tmp_path / "data" / "spool" / f"{database_id}-of-a-dead-process.spool"
    spool.mkdir(parents=True)
    told = await _refused(server, program)
    assert f"cannot read the spool {spool}: Is a directory; it holds rows of the log: make it readable" in told


async def _refused(server: Server, program: str, **environment: str) -> str:
    """Start a program that must refuse; return what it said, having checked that nothing was changed."""
    before = _contents(server)
    code, told = await server.run(program, **environment)
    assert code in (1, 2), told
    assert "Traceback" not in told
    after = _contents(server)
    assert {path: after.get(path) for path in before} == before
    return told


def _contents(server: Server) -> dict[Path, object]:
    """Return every file's bytes; of the database what is in it, because looking at it moves its bytes about."""
    files = [path for path in server.folder.rglob("*") if path.is_file() and "sqlite3" not in path.name]
    with _opened(server) as database:
        return {path: path.read_bytes() for path in files} | {Path("database"): list(database.iterdump())}


@contextlib.contextmanager
def _opened(server: Server) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(server.folder / "data" / "log.sqlite3")) as database:
        yield database
        database.commit()
