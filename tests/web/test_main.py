"""`python -m web` as its owner uses it: clear refusals, and processes that come and go without losing a word."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.tiny import TEXT
from tests.web.conftest import Desk, Written
from trainer import __main__ as trainer
from web.__main__ import main


@pytest.fixture
def installation(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a checkpoint of its own, which `python -m web` uses."""
    shutil.copytree(checkpoints / "tiny", tmp_path / "checkpoints" / "tiny")
    (tmp_path / "config.toml").write_text(
        f"""
[checkpoint]
folders = ["{tmp_path}/checkpoints"]
[database]
url = "sqlite:///{tmp_path}/data/test.sqlite3"
[web]
port = 0
handover_socket = "{tmp_path}/data/web.sock"
""",
        encoding="utf-8",
    )
    monkeypatch.setenv("FABLEWRIGHT_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail; return what it said."""
    assert main(arguments) == 1
    return capsys.readouterr().err


def test_a_taken_port_is_named(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refusal(capsys, "serve", "--port", str(port))
    assert message == (
        f"error: port {port} on 127.0.0.1 is taken by another program; choose another with --port, or stop that one\n"
    )


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_a_port_that_cannot_be_one_is_refused(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit):
        main(["serve", f"--port={port}"])
    assert f"argument --port: expected a whole number from 0 to 65535, got '{port}'" in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there_is_said(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(installation / "checkpoints")
    assert "expected a checkpoint in" in refusal(capsys, "serve")


def test_a_damaged_checkpoint_names_its_file(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (installation / "checkpoints/tiny/model.safetensors").write_bytes(b"half")
    assert "model.safetensors is not a whole safetensors file" in refusal(capsys, "serve")


def test_a_database_that_cannot_be_written_is_said(
    installation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABLEWRIGHT_DATABASE__URL", "sqlite:////proc/nowhere/test.sqlite3")
    assert "cannot use the database" in refusal(capsys, "serve")


def test_a_misspelt_key_is_named(
    installation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABLEWRIGHT_WEB__PROT", "80")
    assert "prot is unknown" in refusal(capsys, "serve")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_public_address_needs_keys_or_a_word(
    installation: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert "lets others in without a key: set require_key = true" in refusal(capsys, "serve", "--host", host)


def test_an_address_of_another_machine_is_refused(
    installation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABLEWRIGHT_WEB__REQUIRE_KEY", "true")
    assert "host 192.0.2.1 is not an address of this machine" in refusal(capsys, "serve", "--host", "192.0.2.1")


def test_nothing_can_be_replaced_where_nothing_runs(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no server to take over" in refusal(capsys, "serve", "--replace")


def test_keys_are_made_listed_and_revoked(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "make", "a friend"]) == 0
    made = capsys.readouterr()
    assert made.out.startswith("fw-")
    key_id = made.err.split()[2]
    main(["keys", "list"])
    listed = capsys.readouterr().out
    assert "open" in listed
    assert "a friend" in listed
    assert made.out.strip() not in listed
    assert main(["keys", "revoke", key_id]) == 0
    main(["keys", "list"])
    assert "revoked" in capsys.readouterr().out
    assert "there is no open key" in refusal(capsys, "keys", "revoke", key_id)


def test_the_doctor_finds_all_well_in_a_good_installation(
    installation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"well  {name}" for name in ("configuration", "checkpoint", "database", "disk", "address")
    ]


def test_the_doctor_names_every_problem_and_what_to_do(
    installation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (installation / "checkpoints/tiny/config.json").write_text("{")
    monkeypatch.setenv("FABLEWRIGHT_WEB__HOST", "0.0.0.0")
    (installation / "data").mkdir()
    (installation / "data/test.sqlite3").touch()
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "bad   checkpoint" in told
    assert "bad   address" in told
    assert "is not up to date: run `python -m migrations`" in told


# ---- processes


class Process:
    """A server of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def ends(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def served(*arguments: str, torch_threads: int = 1) -> AsyncIterator[Process]:
    """Run `python -m web serve`; kill it in the end, if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "web", "serve", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": str(torch_threads)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(90):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("Fablewright writes on "), line
        yield Process(process, line.split()[3])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_server_told_to_stop_finishes_what_it_has_begun(installation: Path) -> None:
    async with served() as server, aiohttp.ClientSession() as client:
        async with client.ws_connect(f"{server.url}/ws") as socket:
            desk = Desk(socket)
            await desk.send("start", id="a", prompt="Once", max_tokens=30, pace=20, temperature=0.9, seed=1)
            await desk.receive()
            server.process.send_signal(signal.SIGTERM)
            written = Written([{"type": "accepted"}, *await desk.until_end("a")])
            assert written.end["reason"] in ("length", "end")
            assert (await socket.receive(timeout=30)).data == aiohttp.WSCloseCode.GOING_AWAY
        assert await server.ends() == 0
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(server.url)


async def test_a_swap_asked_for_once_the_server_stops_does_not_keep_it(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABLEWRIGHT_ENGINE__SHUTDOWN_GRACE_S", "0.5")
    async with served() as server, aiohttp.ClientSession() as client:
        async with client.ws_connect(f"{server.url}/ws") as socket:
            desk = Desk(socket)
            await desk.send("start", id="a", prompt="Once", max_tokens=600, pace=1, seed=1)
            await desk.receive()
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
                server.process.send_signal(number)
            assert (await desk.until_end("a"))[-1]["reason"] == "shutdown"
        assert await server.ends() == 0


async def test_a_new_server_takes_the_socket_and_no_request_and_no_word_is_lost(installation: Path) -> None:
    statuses: list[int] = []

    async def ask_all_the_time(url: str) -> None:
        while True:
            async with aiohttp.ClientSession() as client, client.get(f"{url}/healthz") as response:
                statuses.append(response.status)
            await asyncio.sleep(0.01)

    async with served() as old, aiohttp.ClientSession() as client, client.ws_connect(f"{old.url}/ws") as socket:
        asking = asyncio.create_task(ask_all_the_time(old.url))
        async with served("--replace") as new:
            assert new.url == old.url
            desk = Desk(socket)
            # The old server may have said goodbye to this idle socket already; a reader's page dials again.
            message = await socket.receive(timeout=30)
            assert message.data == aiohttp.WSCloseCode.GOING_AWAY
            assert await old.ends() == 0
            async with client.ws_connect(f"{new.url}/ws") as again:
                desk = Desk(again)
                assert (await desk.write()).end["type"] == "done"
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            assert set(statuses) == {200}


async def test_systemd_is_told_of_a_signal_and_of_a_successor_but_not_that_the_old_one_leaves(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd takes STOPPING=1 from any process for the whole service, and kills it when it goes on."""
    address = str(installation / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        channel.bind(address)

        async def told() -> str:
            return (await asyncio.wait_for(asyncio.get_running_loop().sock_recv(channel, 100), 30)).decode()

        async with served() as old:
            assert await told() == f"READY=1\nMAINPID={old.process.pid}"
            async with served("--replace") as new:
                assert await old.ends() == 0
                assert await told() == f"READY=1\nMAINPID={new.process.pid}"
                with pytest.raises(BlockingIOError):
                    channel.recv(100)
                new.process.send_signal(signal.SIGTERM)
                assert await told() == "STOPPING=1"
                assert await new.ends() == 0


async def test_a_socket_that_systemd_passes_is_used(installation: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        url = f"http://127.0.0.1:{passed.getsockname()[1]}"
        starter = (
            f"import os, sys; os.dup2({passed.fileno()}, 3);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.executable, [sys.executable, '-m', 'web', 'serve'])"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", starter), stdout=asyncio.subprocess.PIPE, pass_fds=[passed.fileno()]
        )
        try:
            assert process.stdout is not None
            assert url in (await asyncio.wait_for(process.stdout.readline(), 90)).decode()
            async with aiohttp.ClientSession() as client, client.get(f"{url}/healthz") as response:
                assert response.status == 200
        finally:
            process.terminate()
            await process.wait()


async def test_sighup_swaps_the_checkpoint_and_a_bad_one_changes_nothing(installation: Path, checkpoints: Path) -> None:
    request = {"prompt": "Once upon a time", "max_tokens": 40, "seed": 3}
    folder = installation / "checkpoints" / "tiny"
    async with served() as server, aiohttp.ClientSession() as client, client.ws_connect(f"{server.url}/ws") as socket:
        desk = Desk(socket)
        before = await desk.write(**request)
        folder.rename(folder.with_name(".old"))
        shutil.copytree(checkpoints / "rough", folder)
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while (after := await desk.write(**request)).text == before.text:
                pass
        assert after.accepted["checkpoint"] == "tiny"
        (folder / "model.safetensors").write_bytes(b"half")
        server.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(1)
        assert (await desk.write(**request)).text == after.text
        shutil.copytree(checkpoints / "tiny", installation / "more" / "mine")
        config = installation / "config.toml"
        both = f'folders = ["{installation}/more", "{installation}/checkpoints"]\nname = "mine"\n'
        config.write_text("[checkpoint]\n" + both, encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while (mine := await desk.write(**request)).accepted["checkpoint"] != "mine":
                pass
        assert mine.text == before.text


async def test_a_server_told_to_stop_ends_streams_on_the_model_before_a_swap_too(
    installation: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABLEWRIGHT_ENGINE__SHUTDOWN_GRACE_S", "1")
    async with served() as server, aiohttp.ClientSession() as client, client.ws_connect(f"{server.url}/ws") as socket:
        desk = Desk(socket)
        await desk.send("start", id="old", prompt="Once", max_tokens=600, pace=1)
        shutil.copytree(checkpoints / "rough", installation / "checkpoints" / "another")
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while (await desk.write("new", max_tokens=1)).accepted["checkpoint"] != "another":
                pass
        server.process.send_signal(signal.SIGTERM)
        assert (await desk.until_end("old"))[-1]["reason"] == "shutdown"
        assert await server.ends() == 0


async def test_a_run_of_the_trainer_is_served_and_a_better_one_takes_over_under_running_streams(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's retraining story: a folder of books, `train`, serve; then `train` again while somebody reads."""
    (installation / "books").mkdir()
    (installation / "books" / "donkey.txt").write_text(TEXT * 2)
    sizes = "--vocab-size=300 --embedding-size=16 --hidden-size=16 --layers=1 --dropout=0 --lanes=4 --quiet"
    for name, seed in (("mine", 1), ("better", 2)):
        options = ["--out", str(installation / "checkpoints" / name), "--steps=4", f"--seed={seed}", *sizes.split()]
        assert trainer.main(["train", str(installation / "books"), *options]) == 0
    monkeypatch.setenv("FABLEWRIGHT_CHECKPOINT__NAME", "mine")
    request = {"prompt": "Once upon a time", "max_tokens": 40, "seed": 3}
    runs = installation / "checkpoints"
    async with served() as server, aiohttp.ClientSession() as client, client.ws_connect(f"{server.url}/ws") as socket:
        desk = Desk(socket)
        before = await desk.write(**request)
        assert before.accepted["checkpoint"] == "mine"
        async with client.ws_connect(f"{server.url}/ws") as other:
            reader = Desk(other)
            await reader.send("start", id="a", pace=10, **request)
            while (message := await reader.receive())["type"] != "text":
                pass
            (runs / "mine").rename(runs / ".old")
            (runs / "better").rename(runs / "mine")
            server.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while (after := await desk.write(**request)).text == before.text:
                    pass
            assert after.accepted["checkpoint"] == "mine"
            rest = Written([message, *await reader.until_end("a")])
            assert (rest.text, rest.end["type"]) == (before.text, "done")
