"""Answers on their way to clients that may not read: whoever takes nothing for a while is cut off, its memory freed."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import NoReturn

from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import Request, StreamResponse, middleware

log = logging.getLogger(__name__)

_NOTHING_LINGERS = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds


def send_whole(timeout_s: float) -> Middleware:
    """Send what a handler returns unsent; a client that reads none of it for `timeout_s` is cut off.

    Raises ConnectionResetError then.
    """

    @middleware
    async def send(request: Request, handler: Handler) -> StreamResponse:
        response = await handler(request)
        if response.prepared:  # it was streamed, or is a WebSocket
            return response
        await response.prepare(request)
        sending = asyncio.create_task(response.write_eof())
        try:
            await asyncio.sleep(0)  # it begins
            while not sending.done():
                unsent = _unsent_bytes(request)
                await asyncio.wait([sending], timeout=timeout_s)
                if not sending.done() and _unsent_bytes(request) == unsent:
                    cut_off(request, timeout_s)
            await sending
        finally:
            sending.cancel()
        return response

    return send


@contextlib.asynccontextmanager
async def in_time(request: Request, timeout_s: float) -> AsyncIterator[None]:
    """Give a piece `timeout_s` seconds to be taken. Raises ConnectionResetError where its client does not read."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        cut_off(request, timeout_s)


def cut_off(request: Request, waited_s: float) -> NoReturn:
    """Reset the connection of a client that does not read. Raises ConnectionResetError."""
    log.info("cutting off a client that does not read: waited_s=%s", waited_s)
    if request.transport is not None:
        raw = request.transport.get_extra_info("socket")
        # Else the kernel goes on holding what it was given for the client, some 3 MB, long after we have let go.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING_LINGERS)
        request.transport.abort()
    raise ConnectionResetError("the client does not read")


def _unsent_bytes(request: Request) -> int:
    transport = request.transport
    return transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0
