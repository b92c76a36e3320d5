"""Whatever arrives, over HTTP, over a WebSocket or as bare bytes: nothing fails on our side, and nothing leaks.

The requests come from the OpenAPI description (schemathesis), the frames from the models of the socket's messages
(hypothesis); half of both are bent until they do not fit.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from core.requests import RANGES
from tests.faults.server import Server
from tests.faults.size import IS_FULL
from web import protocol
from web.openapi import OPERATIONS, describe

INPUTS = 20_000 if IS_FULL else 400
OF_HTTP, OF_FRAMES, OF_BYTES = INPUTS // 2, INPUTS * 4 // 10, INPUTS // 10
FRAMES = 10  # on each socket
MOST_GROWTH_MB = 64  # of caches that fill up to their bounds; a leak of 10 KB an input would be 200
MOST_FILES = 20  # database connections, kept for the next query

_OPEN = ("web_streams_open", "web_sockets_open", "engine_streams_running", "engine_streams_waiting")

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def _push(inputs: int) -> settings:
    return settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        derandomize=not IS_FULL,  # in CI the same inputs every time
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Server]:
    """One server for all inputs, so that what one does to it would meet the next."""
    folder = tmp_path_factory.mktemp("fuzz")
    server = Server(
        folder,
        checkpoints=checkpoints,
        database_url=f"sqlite:///{folder}/log.sqlite3",
        limits__max_tokens="40",
        engine__state_cache_mb="4",
    )
    asyncio.run(server.start())
    yield server
    asyncio.run(server.kill())


@pytest.fixture(autouse=True)
def soundness(server: Server) -> Iterator[None]:
    """After each test the server has reported no fault of its own, and holds nothing that it did not hold before."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    files, memory_bytes = process.num_fds(), process.memory_info().rss
    yield
    counts = asyncio.run(_at_rest(server))
    log = server.output.read_text(errors="replace")
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
    assert not [name for name in counts if 'code="internal"' in name or 'status="500"' in name]
    growth_mb = (process.memory_info().rss - memory_bytes) / 2**20
    print(f"inputs={INPUTS} growth_mb={growth_mb:.0f} files={files} to {process.num_fds()}")
    assert process.num_fds() <= files + MOST_FILES
    assert growth_mb < MOST_GROWTH_MB


async def _at_rest(server: Server) -> dict[str, float]:
    """Return the server's counts once every stream and socket of the test has been let go."""
    async with asyncio.timeout(120):
        while True:
            counts = await server.metrics()
            if not any(value for name, value in counts.items() if name.startswith(_OPEN)):
                return counts
            await asyncio.sleep(0.1)


# ---- HTTP


def _requests() -> st.SearchStrategy[Case]:
    description = schemathesis.openapi.from_dict(describe())
    known: dict[str, dict[str, Any]] = {  # where a made-up name would only ever meet "not found"
        "/v1/models/{id}": {"id": "tiny"},
        "/api/checkpoints/{name}": {"name": "tiny"},
        "/api/stories/{id}": {"id": "a-story-of-the-fuzz-test"},
        "/api/stories/{id}/shares": {"id": "a-story-of-the-fuzz-test"},
    }
    choices = []
    for operation in OPERATIONS:
        described = description[operation.path][operation.method.upper()]
        for mode in GenerationMode:
            choices.append(described.as_strategy(generation_mode=mode))
            if operation.path in known:
                choices.append(described.as_strategy(generation_mode=mode, path_parameters=known[operation.path]))
    return st.one_of(choices).map(_with_a_model_that_is_there)


def _with_a_model_that_is_there(case: Case) -> Case:
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "tiny"
    return case


def test_no_request_makes_the_server_fail_or_answer_against_its_description(server: Server) -> None:
    statuses: Counter[int] = Counter()
    with requests.Session() as session:

        @_push(OF_HTTP)
        @given(case=_requests())
        def push(case: Case) -> None:
            response = case.call(base_url=server.url, session=session, timeout=60)
            statuses[response.status_code] += 1
            case.validate_response(response, checks=_CHECKS)

        push()
    print(f"statuses={dict(statuses)}")
    assert statuses[200] > OF_HTTP / 20, "hardly a request was understood: the test proved nothing"


# ---- WebSocket

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_FITTING: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.floats(allowed.low, allowed.high) for name, allowed in RANGES.items()},
    "id": st.uuids().map(str) | st.text(min_size=1, max_size=64),
    "max_tokens": st.integers(1, 40),
    "top_k": st.integers(0, 600),
    "logprobs": st.integers(0, 20),
    "seed": st.integers(0, 2**53 - 1),
    "stop": st.lists(st.text(min_size=1, max_size=9), max_size=4) | st.text(min_size=1, max_size=9),
    "pace": st.sampled_from([0, 100, 1e6]),
    "checkpoint": st.just("tiny"),
}


def _fitting(model: type[protocol.Message]) -> st.SearchStrategy[dict[str, Any]]:
    fields = model.model_fields.items()
    values = {name: _FITTING.get(name, st.from_type(field.annotation)) for name, field in fields}  # type: ignore[arg-type]
    needed = {name for name, field in fields if field.is_required() or name == "type"}
    return st.fixed_dictionaries(
        {name: values[name] for name in needed},
        optional={name: value for name, value in values.items() if name not in needed},
    )


_MESSAGES = st.one_of(*map(_fitting, (protocol.Start, protocol.Stop, protocol.Resume, protocol.Ping)))


@st.composite
def _bent(draw: st.DrawFn) -> Any:
    """A message with one field changed, added or left out."""
    message = dict(draw(_MESSAGES))
    name = draw(st.sampled_from([*message, "unknown"]))
    if draw(st.booleans()):
        message[name] = draw(_JSON)
    else:
        message.pop(name, None)
    return message


_ODD = ["[" * 100_000, '{"type":' * 50_000, "9" * 5000, '{"type":"start","type":"stop","id":"a"}', "\0", ""]


def _text(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just("text"), strategy)


# A list to draw from, because one_of counts what it is given twice but once.
_FRAMES = st.sampled_from(
    [
        *[_text(_fitting(protocol.Start).map(json.dumps))] * 4,
        _text(_MESSAGES.map(json.dumps)),
        *[_text(_bent().map(json.dumps))] * 3,
        _text(_JSON.map(json.dumps)),
        _text(st.text(st.characters(exclude_categories=["Cs"]))),
        _text(st.sampled_from(_ODD)),
        st.tuples(st.just("binary"), st.binary(max_size=300)),
        st.tuples(st.sampled_from(["ping", "pong"]), st.binary(max_size=125)),
    ]
).flatmap(lambda frames: frames)


def test_no_frame_makes_the_server_fail_or_costs_the_socket_its_next_stream(server: Server) -> None:
    heard: Counter[str] = Counter()

    async def push(frames: list[tuple[str, Any]]) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as socket:
            for kind, content in frames:
                match kind:
                    case "text":
                        await socket.send_str(content)
                    case "binary":
                        await socket.send_bytes(content)
                    case "ping":
                        await socket.ping(content)
                    case "pong":
                        await socket.pong(content)
            await socket.send_json({"type": "start", "id": "the last one", "prompt": "Once", "max_tokens": 2})
            async with asyncio.timeout(60):
                assert await _end_of(socket, "the last one", heard) == "done"

    with asyncio.Runner() as runner:

        @_push(OF_FRAMES // FRAMES)
        @given(frames=st.lists(_FRAMES, min_size=FRAMES, max_size=FRAMES))
        def push_all(frames: list[tuple[str, Any]]) -> None:
            runner.run(push(frames))

        push_all()
    print(f"sockets={OF_FRAMES // FRAMES} heard={dict(heard)}")
    assert heard["accepted"] > 1.2 * (OF_FRAMES // FRAMES), "few streams were begun: the test proved little"


async def _end_of(socket: aiohttp.ClientWebSocketResponse, id: str, heard: Counter[str]) -> str:
    """Return how a stream ended; check that whatever is told on the way is a message of the protocol."""
    async for frame in socket:
        message = json.loads(frame.data)
        assert message.get("code") != "internal", message
        _SERVER_MESSAGES[message["type"]].model_validate_json(frame.data)
        heard[message.get("code", message["type"])] += 1
        if message.get("id") == id and message["type"] in ("done", "error"):
            return str(message["type"])
    raise AssertionError(f"the server closed the socket with code {socket.close_code}")


_SERVER_MESSAGES: dict[str, type[protocol.Message]] = {
    "accepted": protocol.Accepted,
    "queued": protocol.Queued,
    "text": protocol.Text,
    "done": protocol.Done,
    "error": protocol.Error,
    "pong": protocol.Pong,
}


# ---- bytes that are neither

_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_FORM = (
    b"POST /signin HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 40\r\n\r\n--b"
)
_BEGINNINGS = (
    b"",
    _HANDSHAKE,
    b"GET / HTTP/1.1\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    _FORM,
    b"GET /api/settings HTTP/1.1\r\nHost: a\r\nCookie: fablewright=",
    b"GET /api/settings HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer fw-",
)
_REST = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(
        st.sampled_from([b"\r\n", b"\0", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"\x81\x80", b"\x88", b"%", b":"])
    ).map(b"".join),
)


def test_no_bytes_make_the_server_fail(server: Server) -> None:
    async def push(content: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            writer.write(content)
            await writer.drain()
            writer.write_eof()
            async with asyncio.timeout(60):
                return await reader.read()
        return b""

    with asyncio.Runner() as runner:

        @_push(OF_BYTES)
        @given(beginning=st.sampled_from(_BEGINNINGS), rest=_REST)
        @example(beginning=_FORM, rest=b"ffffffffffffffff\r\n:ffffffffffffffff\r\n")
        @example(beginning=_FORM, rest=b"\r\n\r\n" + bytes(60))
        @example(beginning=_BEGINNINGS[-1], rest=b"\xff\r\n\r\n")
        @example(beginning=_BEGINNINGS[-2], rest=b"\xff" * 40 + b"\r\n\r\n")
        def push_all(beginning: bytes, rest: bytes) -> None:
            answer = runner.run(push(beginning + rest))
            assert b"HTTP/1.1 5" not in answer, answer

        push_all()
