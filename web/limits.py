"""How much one client may ask: requests a minute, streams at once, sockets at once.

A client is an API key or, without one, an address. Time is passed in by a clock.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp.typedefs import Handler
from aiohttp.web import Request, StreamResponse, middleware

from .problems import RefusedError
from .settings import WebSettings
from .visitors import VISITOR

_WHOLE = "/api/stories", "/api/shared/", "/api/me/export"  # answers that may be megabytes, or take some work
_FORGET_ABOVE = 10_000  # clients remembered before those with a full allowance are dropped


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float


class Limits:
    """One server's count of what each client is using. A client of None is not limited."""

    def __init__(self, settings: WebSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._allowances: dict[str, _Allowance] = {}
        self._streams: Counter[str] = Counter()
        self._sockets: Counter[str] = Counter()
        self._sockets_open = 0

    def spend(self, client: str | None, requests: int = 1) -> None:
        """Take requests from the client's allowance, which refills evenly. Raises RefusedError `rate_limited`."""
        per_minute = self._settings.requests_per_minute
        if client is None or per_minute == 0:
            return
        now = self._clock()
        allowance = self._allowances.setdefault(client, _Allowance(per_minute, now))
        allowance.left = min(per_minute, allowance.left + (now - allowance.at) * per_minute / 60)
        allowance.at = now
        if allowance.left < min(requests, per_minute):
            wait_s = math.ceil((min(requests, per_minute) - allowance.left) * 60 / per_minute)
            message = f"at most {per_minute} requests a minute are allowed; try again in {wait_s} s"
            raise RefusedError("rate_limited", message, headers={"Retry-After": str(wait_s)})
        allowance.left -= requests
        if len(self._allowances) > _FORGET_ABOVE:
            self._forget_rested(now)

    @middleware
    async def spend_on_work(self, request: Request, handler: Handler) -> StreamResponse:
        """Let what costs as much as a text started count like one: saving, deleting, signing in, reading a story whole.

        Texts count where they are begun.
        """
        client, changes = request[VISITOR].client, request.method not in ("GET", "HEAD")
        if request.path.startswith(_WHOLE) or (changes and request.path.startswith(("/api/", "/signin"))):
            self.spend(client)
        return await handler(request)

    @contextlib.contextmanager
    def stream(self, client: str | None) -> Iterator[None]:
        """Count one stream for as long as the block runs. Raises RefusedError `too_many_streams`."""
        with _counted(self._streams, client, self._settings.streams_per_client, "streams"):
            yield

    @contextlib.contextmanager
    def socket(self, client: str | None) -> Iterator[None]:
        """Count one WebSocket for as long as the block runs. Raises RefusedError `too_many_streams` or `busy`."""
        if self._sockets_open >= self._settings.max_sockets:
            raise RefusedError("busy", f"all {self._settings.max_sockets} connections are taken; try again later")
        with _counted(self._sockets, client, self._settings.sockets_per_client, "connections"):
            self._sockets_open += 1
            try:
                yield
            finally:
                self._sockets_open -= 1

    def _forget_rested(self, now: float) -> None:
        per_minute = self._settings.requests_per_minute
        rested = [
            client
            for client, allowance in self._allowances.items()
            if allowance.left + (now - allowance.at) * per_minute / 60 >= per_minute
        ]
        for client in rested:
            del self._allowances[client]


@contextlib.contextmanager
def _counted(counts: Counter[str], client: str | None, most: int, what: str) -> Iterator[None]:
    if client is None or most == 0:
        yield
        return
    if counts[client] >= most:
        raise RefusedError("too_many_streams", f"at most {most} {what} may be open at once; close one first")
    counts[client] += 1
    try:
        yield
    finally:
        counts[client] -= 1
        if not counts[client]:
            del counts[client]
