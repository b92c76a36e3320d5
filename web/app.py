"""The application: every route, what stands before them, and the order in which it all shuts down.

Built from parts that are ready: engines, writer and store are opened by whoever runs the server.
"""

import asyncio
import logging
import weakref
from http import HTTPStatus

from aiohttp.web import Application, Request, RouteDef, StreamResponse, WebSocketResponse, get

from core.engines import Engines
from core.requests import Limits as RequestLimits
from core.requests import SamplingDefaults
from core.store import DatabaseSettings, Store
from core.writer import Writer

from . import protocol
from .account import Account
from .checkpoints import Checkpoints
from .generation import Generations, Wanted
from .health import HealthChecks
from .limits import Limits
from .metrics import Metrics
from .openai import OpenAI
from .openapi import OpenApi
from .problems import show_problems
from .reports import Reports
from .security import own_names_only, same_origin_only, send_headers
from .sending import send_whole
from .settings import WebSettings
from .signin import SignIn
from .socket import Socket
from .static import StaticFiles
from .stories import Stories
from .streams import KeptStreams, Opened, Stream
from .visitors import VISITOR, Visitors, send_new_cookie

log = logging.getLogger(__name__)


class Web:
    """One server's application and what must be told when it begins and ends."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        engines: Engines,
        writer: Writer,
        store: Store,
        database: DatabaseSettings,
        defaults: SamplingDefaults,
        request_limits: RequestLimits,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics(settings, engines=engines, store=store)
        self.limits = Limits(settings)
        self.health = HealthChecks(engines, store, database)
        self.generations = Generations(
            engines=engines,
            writer=writer,
            store=store,
            defaults=defaults,
            request_limits=request_limits,
            limits=self.limits,
            metrics=self.metrics,
        )
        self._kept = KeptStreams(settings.resume_s)
        self._sockets: dict[Socket, str | None] = {}  # with the visitor's user key
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._store = store
        self._visitors = Visitors(settings, store)
        self.app = self._build()

    def _build(self) -> Application:
        app = Application(
            middlewares=[
                self.metrics.time_requests,
                send_whole(self.settings.send_timeout_s),
                show_problems,
                own_names_only(self.settings),
                self._visitors.recognise,
                same_origin_only(self.settings.allowed_origins),
                self.limits.spend_on_work,
            ],
            client_max_size=self.settings.max_message_bytes,
        )
        app.add_routes(self._routes())
        app.on_response_prepare.append(send_headers)
        app.on_response_prepare.append(send_new_cookie)
        app.on_response_prepare.append(self._let_go)
        app.on_shutdown.append(self._say_goodbye)
        return app

    def _routes(self) -> list[RouteDef]:
        timeout_s = self.settings.request_timeout_s
        return [
            get("/ws", self.connect),
            get("/metrics", self.metrics.show),
            *self.health.routes(),
            *OpenAI(self.generations, self.settings).routes(),
            *OpenApi().routes(),
            *Account(self._store, self.generations, self.settings, self._hang_up).routes(),
            *Stories(self._store, timeout_s=timeout_s).routes(),
            *Checkpoints(self.generations, timeout_s=timeout_s).routes(),
            *Reports(self.settings.reports).routes(),
            *SignIn(self._store, timeout_s=timeout_s).routes(),
            *StaticFiles().routes(),
        ]

    async def connect(self, request: Request) -> WebSocketResponse:
        """Serve one WebSocket for as long as it is open."""
        visitor = request[VISITOR]

        async def recheck_key() -> None:
            await self._visitors.recheck_key(request)

        async def open_stream(wanted: Wanted) -> Opened:
            await recheck_key()
            return await self.generations.open(wanted)

        def spend() -> None:
            self.limits.spend(visitor.client)

        def begin(message: protocol.Start) -> Stream:
            spend()
            wanted = Wanted(
                visitor=visitor,
                source="web",
                prompt=message.prompt,
                sampling=message.model_dump(include=_SAMPLING),
                checkpoint=message.checkpoint,
                pace=message.pace,
                top_logprobs=message.logprobs,
            )
            stream = Stream(lambda: open_stream(wanted), resumable=message.resumable)
            self._streams.add(stream)
            return stream

        socket = Socket(
            settings=self.settings,
            begin=begin,
            spend=spend,
            recheck_key=recheck_key,
            kept=self._kept,
            sockets_open=self._sockets.__len__,
            count_error=self.metrics.count_error,
        )
        if self.health.is_draining:  # the connection was accepted before the listening socket was closed
            socket.close_when_done()
        with self.limits.socket(visitor.client):
            self._sockets[socket] = visitor.user_key
            self.metrics.sockets_open.inc()
            try:
                return await socket.run(request)
            finally:
                del self._sockets[socket]
                self.metrics.sockets_open.dec()

    def _hang_up(self, user_key: str) -> None:
        """Close a visitor's sockets as their streams end; a client that dials again is whoever its cookie says."""
        for socket, whose in self._sockets.items():
            if whose == user_key:
                socket.close_when_done()

    def drain(self) -> None:
        """Welcome no new work; a socket closes when its streams have ended, so that its client dials a successor."""
        self.health.is_draining = True
        for socket in self._sockets:
            socket.close_when_done()

    async def _let_go(self, request: Request, response: StreamResponse) -> None:
        """Keep no connection open while leaving: what comes next on it is for our successor to answer."""
        if self.health.is_draining and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            response.force_close()
            response.headers["Connection"] = "close"

    async def streams_ended(self) -> None:
        """Return when every stream stands in the log; once the engines are closed, that takes a commit or two."""
        ending = [asyncio.create_task(stream.wait()) for stream in self._streams]
        if ending:
            await asyncio.wait(ending, timeout=_LAST_ROWS_S)

    async def _say_goodbye(self, app: Application) -> None:
        self._kept.close()
        self.drain()
        waiting = [asyncio.create_task(socket.closed()) for socket in self._sockets]
        if waiting:
            await asyncio.wait(waiting, timeout=_GOODBYE_S)


_GOODBYE_S = 2
_LAST_ROWS_S = 30
_SAMPLING = set(protocol.Sampling.model_fields)
