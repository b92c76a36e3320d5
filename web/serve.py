"""Runs the server: opens what it needs, listens, and on SIGTERM finishes what it has begun before it leaves.

SIGHUP looks for changed checkpoints and swaps them in; streams that run keep the one they began with.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator

from aiohttp.web import AppRunner, SockSite

import migrations
from core.config import Config
from core.engine import EngineSettings
from core.engines import CheckpointSettings, Engines
from core.errors import FablewrightError
from core.requests import Limits, SamplingDefaults
from core.store import DatabaseSettings, Store
from core.writer import Writer

from .app import Web
from .listen import address_of, bind, handing_over, refuse_public, take_over
from .settings import WebSettings

log = logging.getLogger(__name__)

_KEEPALIVE_S = 75  # also how long a connection may stay silent before its first request
_GOODBYE_S = 5


async def serve(config: Config, settings: WebSettings, *, replace: bool = False) -> None:
    """Serve until told to stop. Raises FablewrightError where it cannot begin."""
    refuse_public(settings)
    listeners, taken_over = take_over(settings.handover_socket) if replace else (bind(settings), _nothing)
    database = DatabaseSettings.read(config)
    async with contextlib.AsyncExitStack() as resources:
        for listener in listeners:
            resources.enter_context(listener)
        await migrations.upgrade(database)
        store = await resources.enter_async_context(Store.open(config))
        engines = await resources.enter_async_context(open_engines(config))
        await engines.get()  # a checkpoint that cannot be used is told now, not to the first visitor
        web = Web(
            settings,
            engines=engines,
            writer=Writer(engines, store),
            store=store,
            database=database,
            defaults=config.table("sampling", SamplingDefaults),
            request_limits=config.table("limits", Limits),
        )
        stop = asyncio.Event()
        _obey_signals(stop, config, engines)
        sites = await resources.enter_async_context(_listening(web, listeners))
        async with handing_over(settings.handover_socket, listeners, stop.set):
            taken_over()
            _announce(listeners, engines)
            await stop.wait()
        await _drain(web, sites, engines)


@contextlib.asynccontextmanager
async def _listening(web: Web, listeners: list[socket.socket]) -> AsyncIterator[list[SockSite]]:
    runner = AppRunner(
        web.app,
        handle_signals=False,
        handler_cancellation=True,
        keepalive_timeout=_KEEPALIVE_S,
        access_log=None,
        shutdown_timeout=_GOODBYE_S,
    )
    await runner.setup()
    try:
        sites = [SockSite(runner, listener) for listener in listeners]
        for site in sites:
            await site.start()
        yield sites
    finally:
        await runner.cleanup()


def open_engines(config: Config) -> Engines:
    """Return the engines that `config` asks for, to be entered."""
    return Engines(
        config.table("checkpoint", CheckpointSettings),
        config.table("engine", EngineSettings),
        config.table("limits", Limits),
    )


async def _drain(web: Web, sites: list[SockSite], engines: Engines) -> None:
    log.info("leaving: streams may finish for a while")
    web.drain()
    for site in sites:
        await site.stop()
    await engines.close()
    await web.streams_ended()


def _announce(listeners: list[socket.socket], engines: Engines) -> None:
    addresses = ", ".join(address_of(listener) for listener in listeners)
    print(f"Fablewright writes on {addresses} with the checkpoint {engines.default_name}; Ctrl-C stops it", flush=True)
    _tell_systemd(f"READY=1\nMAINPID={os.getpid()}")


def _obey_signals(stop: asyncio.Event, config: Config, engines: Engines) -> None:
    """Leave or swap when told to. The handlers stay until the loop is closed: no late signal may cut the end short."""
    loop = asyncio.get_running_loop()
    swaps: set[asyncio.Task[None]] = set()

    def leave() -> None:
        if not stop.is_set():  # where a successor has taken over, systemd's service goes on
            _tell_systemd("STOPPING=1")
        stop.set()

    def swap() -> None:
        if stop.is_set():
            return
        swaps.add(task := asyncio.create_task(_swap(config, engines)))
        task.add_done_callback(swaps.discard)

    handlers = {signal.SIGTERM: leave, signal.SIGINT: leave, signal.SIGHUP: swap}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)


async def _swap(config: Config, engines: Engines) -> None:
    """Load the checkpoint that config.toml names now, changed or not; one that cannot be used changes nothing."""
    try:
        await engines.swap(Config(config.path).table("checkpoint", CheckpointSettings))
        log.info("checkpoint swapped: name=%s", engines.default_name)
    except FablewrightError as error:
        log.error("checkpoint not swapped, the old one goes on: error=%s", error)


def _nothing() -> None:
    """There was no server to take over from."""


def _tell_systemd(state: str) -> None:
    """Follow sd_notify(3), where systemd asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
