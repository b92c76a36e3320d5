"""Discord's gateway: HELLO, IDENTIFY, READY, heartbeats, RESUME with replay, op 7 and op 9, zlib-stream.

Follows https://docs.discord.com/developers/events/gateway, version 10, JSON. Knows nothing of REST.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, WSMsgType, web

from .discord_world import Json

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 0, 1, 2, 6, 7, 9, 10, 11
AUTHENTICATION_FAILED, DISALLOWED_INTENTS = 4004, 4014
GUILDS, GUILD_MESSAGES, DIRECT_MESSAGES = 1 << 0, 1 << 9, 1 << 12
PRIVILEGED_INTENTS = 1 << 1 | 1 << 8 | 1 << 15  # members, presences, message content


@dataclass
class Session:
    """One shard's identified session; it outlives its socket, so that RESUME can replay what was missed."""

    shard: tuple[int, int]
    intents: int
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    sent: list[Json] = field(default_factory=list)  # every dispatch, in order of `s`
    socket: Socket | None = None

    async def dispatch(self, event: str, data: Json) -> None:
        payload = {"op": DISPATCH, "t": event, "s": len(self.sent) + 1, "d": data}
        self.sent.append(payload)
        if self.socket is not None:
            await self.socket.send(payload)


class Socket:
    """One WebSocket connection, compressed as asked."""

    def __init__(self, response: web.WebSocketResponse, *, compressed: bool) -> None:
        self.response = response
        self._compressor = zlib.compressobj() if compressed else None

    async def send(self, payload: Json) -> None:
        text = json.dumps(payload)
        if self.response.closed:
            return
        try:
            if self._compressor is None:
                await self.response.send_str(text)
            else:
                packed = self._compressor.compress(text.encode()) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
                await self.response.send_bytes(packed)
        except ConnectionError:
            pass  # the other side is gone; RESUME will replay

    async def close(self, code: int) -> None:
        await self.response.close(code=code)


class Gateway:
    """Serves `/gateway`. `ready` gives READY's body, `guilds` the GUILD_CREATE bodies that follow it."""

    def __init__(
        self,
        token: str,
        ready: Callable[[Session], Json],
        guilds: Callable[[Session], list[Json]],
        notify: Callable[[], Awaitable[None]],
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.identifies: list[Json] = []
        self.resumes: list[Json] = []
        self.heartbeat_interval_s = 41.25
        self._token = token
        self._ready = ready
        self._guilds = guilds
        self._notify = notify

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        socket = Socket(response, compressed=request.query.get("compress") == "zlib-stream")
        await socket.send({"op": HELLO, "d": {"heartbeat_interval": int(self.heartbeat_interval_s * 1000)}})
        async for message in response:
            if message.type is WSMsgType.TEXT:
                await self._receive(socket, json.loads(message.data))
        self._forget(socket)
        return response

    async def dispatch(self, event: str, data: Json, *, shard_of: int = 0, intents: int = 0) -> None:
        """Send an event to the session whose shard owns guild `shard_of`, if its intents ask for it."""
        for session in list(self.sessions.values()):
            is_owner = (shard_of >> 22) % session.shard[1] == session.shard[0]
            if is_owner and (not intents or session.intents & intents):
                await session.dispatch(event, data)

    async def drop(self, code: int = WSCloseCode.INTERNAL_ERROR) -> None:
        """Close every socket without a word; sessions can be resumed."""
        for socket in self._sockets():
            await socket.close(code)

    async def ask_to_reconnect(self) -> None:
        for socket in self._sockets():
            await socket.send({"op": RECONNECT, "d": None})

    async def invalidate(self, *, resumable: bool = False) -> None:
        """End every session; the client must identify again unless it may resume."""
        sockets = self._sockets()
        if not resumable:
            self.sessions.clear()
        for socket in sockets:
            await socket.send({"op": INVALID_SESSION, "d": resumable})

    async def close(self) -> None:
        for socket in self._sockets():
            await socket.close(WSCloseCode.GOING_AWAY)

    @property
    def is_connected(self) -> bool:
        return bool(self._sockets())

    def _sockets(self) -> list[Socket]:
        return [session.socket for session in self.sessions.values() if session.socket is not None]

    def _forget(self, socket: Socket) -> None:
        for session in self.sessions.values():
            if session.socket is socket:
                session.socket = None

    async def _receive(self, socket: Socket, payload: Json) -> None:
        data = payload["d"]
        match payload["op"]:
            case 1:
                await socket.send({"op": HEARTBEAT_ACK, "d": None})
            case 2:
                await self._identify(socket, data)
                await self._notify()
            case 6:
                await self._resume(socket, data)
                await self._notify()

    async def _identify(self, socket: Socket, data: Json) -> None:
        self.identifies.append(data)
        if data["token"] != self._token:
            return await socket.close(AUTHENTICATION_FAILED)
        if data["intents"] & PRIVILEGED_INTENTS:
            return await socket.close(DISALLOWED_INTENTS)
        shard = tuple(data.get("shard", (0, 1)))
        self.sessions = {  # two living ones may have the same shard: both hear everything
            id_: session for id_, session in self.sessions.items() if session.socket or session.shard != shard
        }
        session = Session(shard=shard, intents=data["intents"], socket=socket)
        self.sessions[session.id] = session
        await session.dispatch("READY", self._ready(session))
        for guild in self._guilds(session):
            await session.dispatch("GUILD_CREATE", guild)
        return None

    async def _resume(self, socket: Socket, data: Json) -> None:
        self.resumes.append(data)
        session = self.sessions.get(data["session_id"])
        if data["token"] != self._token:
            return await socket.close(AUTHENTICATION_FAILED)
        if session is None:
            return await socket.send({"op": INVALID_SESSION, "d": False})
        session.socket = socket
        for missed in session.sent[data["seq"] :]:
            await socket.send(missed)
        await session.dispatch("RESUMED", {})
        return None
