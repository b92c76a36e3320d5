"""One WebSocket: several streams by id, one writer that joins what has gathered into frames, limits on both sides.

The messages are in protocol.py, the generations in streams.py; this is the traffic between them.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import WSCloseCode, WSMessage, WSMsgType
from aiohttp.web import Request, WebSocketResponse
from pydantic import ValidationError
from pydantic_core import from_json

from core.errors import ClosedError, FablewrightError, InputError
from core.requests import Finished, TokenLogprob

from . import protocol
from .invalid import explain
from .problems import RefusedError, translate
from .sending import in_time
from .settings import WebSettings
from .streams import KeptStreams, Reader, Stream

log = logging.getLogger(__name__)

_HEARTBEAT_S = 20
_FRAME_S = 0.02  # a screen shows no more than this; the first text never waits for it
_FRAMES_PER_S = 4000  # what one process sends at most, whatever the number of sockets
_LONGEST_READ_TWICE = 2**20  # characters of a message; laying out 400,000 made-up fields takes half a second
_MOST_REPLIES = 100  # answers not yet read before the socket stops listening to its client


class Socket:
    """The server's end of one WebSocket; `run` returns when it is closed."""

    def __init__(
        self,
        *,
        settings: WebSettings,
        begin: Callable[[protocol.Start], Stream],
        spend: Callable[[], None],
        recheck_key: Callable[[], Awaitable[None]],
        kept: KeptStreams,
        sockets_open: Callable[[], int],
        count_error: Callable[[str], None],
    ) -> None:
        """`begin` starts a stream for this visitor, `spend` counts other work, `recheck_key` raises where their key has
        been revoked; `sockets_open` counts those of the process."""
        self._settings = settings
        self._begin, self._spend, self._recheck_key = begin, spend, recheck_key
        self._kept = kept
        self._sockets_open = sockets_open
        self._count_error = count_error
        # Compression would cost each socket some 300 KB of zlib state to save little on frames this short.
        self._ws = WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=settings.max_message_bytes, compress=False)
        self._listening: dict[str, _Listening] = {}
        self._replies: deque[protocol.Error | protocol.Pong] = deque()
        self._idle_since = 0.0
        self._news = asyncio.Event()
        self._was_read = asyncio.Event()
        self._is_closing = False
        self._says_goodbye = False
        self._has_closed = asyncio.Event()

    async def run(self, request: Request) -> WebSocketResponse:
        """Serve the socket until either side closes it. Raises RefusedError for a plain request."""
        if not self._ws.can_prepare(request):
            raise RefusedError("invalid_request", "/ws takes WebSockets alone: ask with a WebSocket client")
        await self._ws.prepare(request)
        sender = asyncio.create_task(self._send_all(request))
        try:
            await self._receive_all()
        finally:
            if not self._says_goodbye:
                sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender
            for listening in self._listening.values():
                self._leave(listening.reader.stream)
            self._has_closed.set()
        return self._ws

    def close_when_done(self) -> None:
        """Say goodbye as soon as no stream is open; what is asked meanwhile is left to the next socket."""
        self._is_closing = True
        self._news.set()

    async def closed(self) -> None:
        """Return when the socket is closed."""
        await self._has_closed.wait()

    # ---- receiving

    async def _receive_all(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle_since = loop.time()
        while True:
            try:  # not with receive's own timeout, which begins anew at every pong
                async with asyncio.timeout_at(self._idle_since + self._settings.idle_timeout_s):
                    message = await self._ws.receive()
            except TimeoutError:
                if self._listening:
                    self._idle_since = loop.time()
                if loop.time() < self._idle_since + self._settings.idle_timeout_s:
                    continue
                await self._ws.close(message=b"idle")
                return
            self._idle_since = loop.time()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
            try:
                await self._receive(message)
            except FablewrightError as error:
                self._reply(_as_message(error, None))
            while len(self._replies) > _MOST_REPLIES:
                self._was_read.clear()
                await self._was_read.wait()

    async def _receive(self, frame: WSMessage) -> None:
        if frame.type is not WSMsgType.TEXT:
            raise InputError("expected a text frame, got a binary one")
        try:
            message = protocol.client_messages.validate_json(frame.data)
        except ValidationError as error:
            self._refuse(explain(error, is_tagged=True), _id_within(frame.data))
            self._spend()
            return
        if isinstance(message, protocol.Ping):
            self._reply(protocol.Pong())
            return
        try:
            match message:
                case protocol.Start():
                    self._start(message)
                case protocol.Resume():
                    await self._resume(message)
                case protocol.Stop():
                    if listening := self._listening.get(message.id):
                        listening.reader.stream.stop()
        except FablewrightError as error:
            self._refuse(translate(error), message.id)

    def _start(self, message: protocol.Start) -> None:
        if self._is_closing:
            return  # not answered: the client finds the socket closed, dials again and asks our successor
        self._check_free(message.id)
        stream = self._begin(message)
        self._listen(_Listening(id=message.id, reader=Reader(stream)))

    async def _resume(self, message: protocol.Resume) -> None:
        self._check_free(message.id)
        self._spend()
        await self._recheck_key()
        stream = self._kept.get(message.stream)
        if stream is None:
            raise RefusedError(
                "unknown_stream",
                "this stream is not kept any more; start it again with the same seed for the same text",
            )
        self._listen(_Listening(id=message.id, reader=Reader(stream, received=message.received)))

    def _check_free(self, id: str) -> None:
        if id in self._listening:
            raise RefusedError("duplicate_id", f"id {id} is taken by a stream that is still open", "id")
        most = self._settings.streams_per_socket
        if len(self._listening) >= most:
            raise RefusedError("too_many_streams", f"at most {most} streams may be open on one connection")

    def _listen(self, listening: "_Listening") -> None:
        self._listening[listening.id] = listening
        stream = listening.reader.stream
        if stream.resumable:
            self._kept.hold(stream)
        stream.on_taken()
        stream.on_news = self._news.set
        stream.on_taken = lambda: self._forget(listening)
        self._news.set()

    def _forget(self, listening: "_Listening") -> None:
        """Let a stream go that another listener has taken over."""
        if self._listening.get(listening.id) is listening:
            del self._listening[listening.id]
            taken = RefusedError("taken_over", "this stream has been resumed elsewhere, and goes on there")
            self._reply(_as_message(taken, listening.id))

    def _leave(self, stream: Stream) -> None:
        if stream.resumable:
            self._kept.release(stream)
        else:
            stream.stop()

    # ---- sending

    def _refuse(self, error: FablewrightError, id: str | None) -> None:
        """Say that a message was refused; an id would end its stream, so that of one that goes on is left out."""
        self._reply(_as_message(error, None if id in self._listening else id))

    def _reply(self, message: protocol.Error | protocol.Pong) -> None:
        if isinstance(message, protocol.Error):
            self._count_error(message.code)
        self._replies.append(message)
        self._news.set()

    async def _send_all(self, request: Request) -> None:
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                for frame in self._frames():
                    async with in_time(request, self._settings.send_timeout_s):
                        await self._ws.send_str(frame)
                if self._is_closing and not self._listening:
                    self._says_goodbye = True  # this wakes the receiving side, which then must wait for us
                    await self._ws.close(code=WSCloseCode.GOING_AWAY, message=b"dial again")
                    return
                await asyncio.sleep(max(_FRAME_S, self._sockets_open() / _FRAMES_PER_S))
        except ConnectionError:
            pass  # the receiving side ends the same way
        except Exception:
            log.exception("cannot send, closing the connection")
        if request.transport is not None:
            request.transport.abort()

    def _frames(self) -> Iterator[str]:
        while self._replies:
            yield protocol.encode(self._replies.popleft())
        self._was_read.set()
        for listening in list(self._listening.values()):
            for message in listening.take():
                if isinstance(message, protocol.Error):
                    if self._is_closing and message.code == ClosedError.code:
                        continue  # the engine closed before it took this start: as in _start
                    self._count_error(message.code)
                if self._listening.get(listening.id) is not listening:
                    break  # another socket has taken it over while a frame was sent
                yield protocol.encode(message)
            if listening.is_over and self._listening.get(listening.id) is listening:
                self._idle_since = asyncio.get_running_loop().time()
                del self._listening[listening.id]
                self._leave(listening.reader.stream)


class _Listening:
    """One stream as this socket's client knows it: by its own id, with what has been told already."""

    def __init__(self, *, id: str, reader: Reader) -> None:
        self.id = id
        self.reader = reader
        self.is_over = False
        self._accepted = False
        self._queued: object = None

    def take(self) -> Iterator[protocol.ServerMessage]:
        stream = self.reader.stream
        finished, error = stream.finished, stream.error
        if not self._accepted and stream.opened and (stream.has_begun or finished):
            self._accepted = True
            yield self._as_accepted()
        if stream.queued and stream.queued is not self._queued:
            self._queued = stream.queued
            yield protocol.Queued(
                id=self.id, position=stream.queued.position, estimate_s=round(stream.queued.estimate_s, 3)
            )
        if piece := self.reader.take():
            tokens = [_as_token(token) for token in piece.logprobs] or None
            if piece.text or tokens:
                yield protocol.Text(id=self.id, text=piece.text, tokens=tokens)
        if finished:
            self.is_over = True
            yield _as_done(self.id, finished, stream.copied_share)
        elif error:
            self.is_over = True
            yield _as_message(error, self.id)

    def _as_accepted(self) -> protocol.Accepted:
        opened = self.reader.stream.opened
        assert opened is not None
        key = self.reader.stream.key if self.reader.stream.resumable else None
        return protocol.Accepted(id=self.id, seed=opened.seed, checkpoint=opened.checkpoint, stream=key)


def _as_token(token: TokenLogprob) -> protocol.Token:
    top = [protocol.Choice(text=other.text, logprob=other.logprob) for other in token.top]
    return protocol.Token(text=token.text, logprob=token.logprob, top=top)


def _as_done(id: str, finished: Finished, copied_share: float | None) -> protocol.Done:
    assert finished.reason != "error"
    return protocol.Done(
        id=id,
        reason=finished.reason,
        prompt_tokens=finished.prompt_tokens,
        completion_tokens=finished.completion_tokens,
        time_to_first_token_s=finished.time_to_first_token_s,
        duration_s=finished.duration_s,
        tokens_per_second=round(finished.completion_tokens / max(finished.duration_s, 1e-9), 1),
        copied_share=copied_share,
    )


def _as_message(error: FablewrightError, id: str | None) -> protocol.Error:
    field = error.field if isinstance(error, InputError | RefusedError) else None
    return protocol.Error(id=id, code=error.code, message=str(error), field=field)


def _id_within(frame: str) -> str | None:
    """Return the id of a message that was refused, where it has a fitting one, so that its sender can tell."""
    if len(frame) > _LONGEST_READ_TWICE:
        return None
    try:
        message = from_json(frame)
    except ValueError:
        return None
    id = message.get("id") if isinstance(message, dict) else None
    return id if isinstance(id, str) and 1 <= len(id) <= 64 else None
