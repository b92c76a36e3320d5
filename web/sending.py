"""Answers on their way to clients that may not read: whoever takes nothing for a while is cut off, its memory freed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NoReturn

from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import Request, StreamResponse, middleware


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
                    cut_off(request)
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
        cut_off(request)


def cut_off(request: Request) -> NoReturn:
    """Drop the connection of a client that does not read. Raises ConnectionResetError."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the client does not read")


def _unsent_bytes(request: Request) -> int:
    transport = request.transport
    return transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0
