"""The listening socket: bound here, inherited from systemd, or handed over by a server that this one replaces.

A handed-over socket is the very same one, queue and all, so a restart loses no connection: the old process goes on
with the streams it has, the new one takes every connection that comes.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from core.errors import ConfigError

from .settings import WebSettings

log = logging.getLogger(__name__)

_SYSTEMD_FIRST_FD = 3
_BACKLOG = 1024
_TAKEN_OVER = b"ready"


def refuse_public(settings: WebSettings) -> None:
    """Raise ConfigError where strangers could use the server without a key and nobody said that they may."""
    if is_loopback(settings.host) or settings.require_key or settings.public_without_keys:
        return
    raise ConfigError(
        f"[web] host {settings.host} lets others in without a key: set require_key = true and make keys with "
        "`python -m web keys make NAME`, or set public_without_keys = true if that is what you want"
    )


def bind(settings: WebSettings) -> list[socket.socket]:
    """Return systemd's sockets where it passed some, else one bound to host and port. Raises ConfigError."""
    inherited = _from_systemd()
    if inherited:
        return inherited
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise ConfigError(f"[web] host {host} is not an address of this machine: {error.strerror}") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(_why_not(error, host, port)) from None
    return [listener]


def take_over(path: Path) -> tuple[list[socket.socket], Callable[[], None]]:
    """Return a running server's sockets, and what to call once this process serves them. Raises ConfigError."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.connect(str(path))
        _, descriptors, _, _ = socket.recv_fds(channel, 16, 8)
    except OSError as error:
        channel.close()
        raise ConfigError(f"there is no server to take over at {path}: {error.strerror}; start without it") from None
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for listener in listeners:
        listener.setblocking(False)

    def done() -> None:
        with channel:
            channel.sendall(_TAKEN_OVER)

    return listeners, done


@contextlib.asynccontextmanager
async def handing_over(path: Path, listeners: list[socket.socket], leave: Callable[[], None]) -> AsyncIterator[None]:
    """Offer the sockets at `path` while the block runs; call `leave` when another process has taken them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # an old process's, which has handed over or died

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _hand_over(reader, writer, listeners, leave)

    server = await asyncio.start_unix_server(answer, path)
    path.chmod(0o600)
    inode = path.stat().st_ino
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == inode:  # else it is our successor's already
                path.unlink()


async def _hand_over(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    listeners: list[socket.socket],
    leave: Callable[[], None],
) -> None:
    channel = writer.get_extra_info("socket")
    with socket.socket(fileno=os.dup(channel.fileno())) as copy:
        socket.send_fds(copy, [b"sockets"], [listener.fileno() for listener in listeners])
    answer = await reader.read(len(_TAKEN_OVER))
    writer.close()
    if answer == _TAKEN_OVER:
        log.info("another process has taken over: streams_end_here=true")
        leave()
    else:
        log.warning("another process asked to take over and gave up")


def is_loopback(host: str) -> bool:
    """Say whether a name or address is this machine's own, out of reach of others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(listener: socket.socket) -> str:
    """Return the URL at which a socket listens."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _from_systemd() -> list[socket.socket]:
    """Follow sd_listen_fds(3)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    listeners = [socket.socket(fileno=_SYSTEMD_FIRST_FD + i) for i in range(count)]
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program; choose another with --port, or stop that one"
    if error.errno == errno.EACCES:
        return f"port {port} needs a privilege this user does not have; choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"[web] host {host} is not an address of this machine"
    return f"cannot listen on {host}, port {port}: {error.strerror}"
