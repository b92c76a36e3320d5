"""/healthz: is the process alive, its model loaded, its engine running. /readyz: may it be sent work; if not, why."""

import asyncio
import logging
import math
import time

from aiohttp.web import Request, Response, RouteDef, get
from pydantic import BaseModel

import migrations
from core.engines import Engines
from core.errors import FablewrightError
from core.store import DatabaseSettings, Store

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 2  # a probe must not become a load on the database
_PATIENCE_S = 2


class Health(BaseModel):
    """`problems` is empty when all is well."""

    ok: bool
    checkpoint: str
    problems: list[str]


class HealthChecks:
    """The two routes. `is_draining` is set when the server has begun to shut down."""

    def __init__(self, engines: Engines, store: Store, database: DatabaseSettings) -> None:
        self._engines = engines
        self._store = store
        self._database = database
        self._looked_at = -math.inf
        self._found: list[str] = []
        self.is_draining = False

    def routes(self) -> list[RouteDef]:
        """Return the routes."""
        return [get("/healthz", self.alive), get("/readyz", self.ready)]

    async def alive(self, request: Request) -> Response:
        """Answer 200 while the model is loaded and can write."""
        return self._answer(self._engine_problems())

    async def ready(self, request: Request) -> Response:
        """Answer 200 while new work is welcome."""
        problems = self._engine_problems() + self._queue_problems() + await self._store_problems()
        if self._store.log.stats().is_database_away:
            problems.append("the prompt log cannot be written: its rows wait in the spool")
        if self.is_draining:
            problems.append("the server is shutting down")
        return self._answer(problems)

    def _answer(self, problems: list[str]) -> Response:
        health = Health(ok=not problems, checkpoint=self._engines.default_name, problems=problems)
        return Response(text=health.model_dump_json(), status=503 if problems else 200, content_type="application/json")

    def _engine_problems(self) -> list[str]:
        if not (loaded := self._engines.loaded()):
            return ["no checkpoint is loaded"]
        return [f"the engine of {engine.name} has stopped" for engine in loaded if not engine.is_running]

    def _queue_problems(self) -> list[str]:
        looks = [engine.snapshot() for engine in self._engines.loaded()]
        full = [stats for stats in looks if stats.waiting >= stats.queue > 0]
        return [f"the queue of {stats.checkpoint} is full: {stats.waiting} streams wait" for stats in full]

    async def _store_problems(self) -> list[str]:
        if time.monotonic() > self._looked_at + _LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            self._found = await self._look_at_store()
        return self._found

    async def _look_at_store(self) -> list[str]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                is_current = await migrations.is_current(self._database)
        except TimeoutError:
            return ["the database does not answer"]
        except FablewrightError as error:
            log.error("not ready: %s", error)  # with the database's address
            return ["the database cannot be used"]
        return [] if is_current else ["the database is not up to date: run `python -m migrations`"]
