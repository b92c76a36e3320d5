"""Clients that are slow, dead or silent: none of them costs anybody else anything."""

import asyncio
import contextlib
import resource
import socket as sockets
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import IS_FULL, sqlite_will_do
from tests.faults.visitors import Told, rows, write

SILENT = 1000
SLOW = 20 if IS_FULL else 2

pytestmark = sqlite_will_do


@pytest.fixture
async def server(database_settings: DatabaseSettings, new_server: Callable[..., Server]) -> AsyncIterator[Server]:
    async with new_server(database_settings, web__send_timeout_s="2") as server:
        yield server


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and the servers it starts, open thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_new_visitor_gets_text_past_1000_silent_connections(many_files: None, server: Server) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(SILENT // 2):
            await stack.enter_async_context(session.ws_connect(f"{server.url}/ws"))
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.push_async_callback(_close, writer)
        began_at = time.monotonic()
        told = await _write_once(server)
        print(f"silent={SILENT} a_new_visitors_whole_text_s={time.monotonic() - began_at:.3f}")
    assert told.reason in ("length", "end")


async def test_clients_that_never_read_are_dropped_and_hold_nobody_up(server: Server) -> None:
    slow = [await _ask_and_never_read(server) for _ in range(SLOW)]
    told = await _write_once(server)
    assert told.reason in ("length", "end")
    await _until_none(server, "web_sockets_open")  # reading sooner would be reading in time
    for one in slow:
        assert await _left_to_read(one) < 65536, "the server's kernel went on holding text for a client cut off"
    await _until_none(server, "web_streams_open")


async def test_clients_that_die_give_their_slots_back_and_are_logged_as_cancelled(
    server: Server, database_settings: DatabaseSettings
) -> None:
    async with aiohttp.ClientSession() as session:
        for number in range(SLOW):
            socket = await session.ws_connect(f"{server.url}/ws")
            await socket.send_json(
                {"type": "start", "id": "a", "prompt": f"dead {number}", "max_tokens": 4000, "pace": 5}
            )
            await socket.receive()
            await socket.receive()
            raw = socket.get_extra_info("socket")
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))  # close by reset, no goodbye
            socket._response.connection.transport.abort()
    await _until_none(server, "web_streams_open")
    reasons = {row.reason for row in await rows(database_settings)}
    assert reasons == {"cancelled"}


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _write_once(server: Server) -> Told:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as socket:
        await write(socket, told := Told(prompt="Once upon a time"), max_tokens=20)
        return told


async def _ask_and_never_read(server: Server) -> sockets.socket:
    """Open a WebSocket by hand, with a tiny window, and ask for much text in it."""
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", server.port))
    handshake = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await loop.sock_sendall(raw, handshake.encode())
    await loop.sock_recv(raw, 4096)
    for number in range(40):
        start = f'{{"type":"start","id":"{number}","prompt":"Once","max_tokens":4000,"logprobs":20}}'.encode()
        await loop.sock_sendall(raw, b"\x81\xfe" + struct.pack(">H", len(start)) + bytes(4) + start)
    return raw


async def _left_to_read(raw: sockets.socket) -> int:
    """Return how many bytes still come of a connection that was reset. Raises TimeoutError where it was not."""
    loop = asyncio.get_running_loop()
    count = 0
    with contextlib.closing(raw), contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            while read := await loop.sock_recv(raw, 65536):
                count += len(read)
    return count


async def _until_none(server: Server, gauge: str) -> None:
    async with asyncio.timeout(180):
        while await _reading(server, gauge):  # noqa: ASYNC110 — there is no event to wait for
            await asyncio.sleep(0.1)


async def _reading(server: Server, gauge: str) -> float:
    counts = await server.metrics()
    return sum(value for name, value in counts.items() if name.startswith(gauge))
