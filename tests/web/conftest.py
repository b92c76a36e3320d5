"""A really listening server on a tiny real checkpoint and a real SQLite file, and clients to talk to it."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, web

import migrations
from core.config import Config
from core.engines import Engines
from core.requests import Limits, SamplingDefaults
from core.store import DatabaseSettings, Store
from core.writer import Writer
from web.app import Web
from web.listen import bind
from web.serve import open_engines
from web.settings import WebSettings

CONFIG = """
[checkpoint]
folders = ["{checkpoints}"]
name = "tiny"
[database]
url = "sqlite:///{folder}/data/test.sqlite3"
statement_timeout_s = 60
[limits]
max_prompt_bytes = 100000
max_tokens = 600
[web]
handover_socket = "{folder}/web.sock"
"""


@dataclass(frozen=True)
class Site:
    """A server that runs."""

    url: str
    web: Web
    store: Store
    engines: Engines
    client: ClientSession  # a visitor with a cookie jar

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        return await self.call("GET", path, status, **options)

    async def call(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """Ask as the visitor; check the status; return the JSON, or None."""
        async with self.client.request(method, self.url + path, **options) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if text else None

    def connect(self, **options: Any) -> contextlib.AbstractAsyncContextManager["Desk"]:
        return _desk(self.client, self.url, options)


class Desk:
    """The client's end of a WebSocket."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, type: str, **fields: Any) -> None:
        await self.socket.send_json({"type": type, **fields})

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json(timeout=60)
        return message

    async def until_end(self, id: str) -> list[dict[str, Any]]:
        """Return every message about one stream up to its end, passing over others'."""
        messages = []
        while True:
            message = await self.receive()
            if message.get("id") == id:
                messages.append(message)
                if message["type"] in ("done", "error"):
                    return messages

    async def write(self, id: str = "a", **fields: Any) -> "Written":
        """Start a stream and wait for its end."""
        await self.send("start", id=id, **{"prompt": "Once upon a time", "max_tokens": 20} | fields)
        return Written(await self.until_end(id))


class Written:
    """What one stream said."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.end = messages[-1]
        self.text = "".join(message["text"] for message in messages if message["type"] == "text")

    @property
    def accepted(self) -> dict[str, Any]:
        return next(message for message in self.messages if message["type"] == "accepted")


@contextlib.asynccontextmanager
async def _desk(client: ClientSession, url: str, options: dict[str, Any]) -> AsyncIterator[Desk]:
    async with client.ws_connect(f"{url}/ws", **options) as socket:
        yield Desk(socket)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, rough_checkpoint: Path) -> Path:
    """A folder with two tiny checkpoints: tiny, and rough, which has learned less."""
    folder = tmp_path_factory.mktemp("checkpoints")
    shutil.copytree(tiny_checkpoint, folder / "tiny")
    shutil.copytree(rough_checkpoint, folder / "rough")
    return folder


@pytest.fixture
def engine_config(request: pytest.FixtureRequest) -> str:
    """The table [engine]: this process writes; with `on_every_backend`, replicas in a Ray cluster too."""
    if getattr(request, "param", "local") == "local":
        return ""
    address = request.getfixturevalue("ray_cluster").address
    return f'[engine]\nbackend = "ray"\nray_address = "{address}"\nray_max_replicas = 1\nthreads = 1\n'


@pytest.fixture
def config(checkpoints: Path, tmp_path: Path, engine_config: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(checkpoints=checkpoints, folder=tmp_path) + engine_config, encoding="utf-8")
    return Config(path)


StartSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start_site(config: Config) -> AsyncIterator[StartSite]:
    """Start a server with any [web] settings; it stops when the test ends."""
    async with contextlib.AsyncExitStack() as resources:

        async def start(**settings: Any) -> Site:
            await migrations.upgrade(DatabaseSettings.read(config))
            store = await resources.enter_async_context(Store.open(config))
            engines = await resources.enter_async_context(open_engines(config))
            server_settings = WebSettings(**{"port": 0} | settings)
            server = Web(
                server_settings,
                engines=engines,
                writer=Writer(engines, store),
                store=store,
                database=DatabaseSettings.read(config),
                defaults=config.table("sampling", SamplingDefaults),
                request_limits=config.table("limits", Limits),
            )
            runner = web.AppRunner(server.app, handler_cancellation=True, access_log=None, shutdown_timeout=2)
            await runner.setup()
            resources.push_async_callback(runner.cleanup)
            (listener,) = bind(server_settings)
            await web.SockSite(runner, listener).start()
            client = await resources.enter_async_context(new_client())
            return Site(f"http://127.0.0.1:{listener.getsockname()[1]}", server, store, engines, client)

        yield start


@pytest.fixture
async def site(start_site: StartSite) -> Site:
    return await start_site()


def new_client() -> ClientSession:
    """Return a visitor who has never been here."""
    return ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))  # unsafe: cookies for bare addresses too


def streams_open(site: Site, source: str = "web") -> float:
    """Return how many generations the server runs for its clients."""
    return site.web.metrics.registry.get_sample_value("web_streams_open", {"source": source}) or 0


async def eventually(is_so: Callable[[], bool], within_s: float = 30) -> None:
    """Wait until something holds; fail when it does not come to hold."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 -- what a test watches for is announced by no event
            await asyncio.sleep(0.02)
