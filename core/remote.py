"""Generation on many machines: an engine like `core.engine`'s, its work done by replicas in a Ray cluster.

Ray Serve starts the replicas, watches their health, scales their number and sends each stream to one of them. A
replica that dies in mid-stream loses nothing: the request goes to another one together with the tokens already told,
which are read like a prompt; and because each draw depends on seed and position alone, the text goes on as if nothing
had happened. Ray is an optional extra: pip install "fablewright[cluster]".
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from .checkpoint import Checkpoint, load_checkpoint
from .engine import Engine, EngineSettings, EngineStats
from .errors import BusyError, ClosedError, ConfigError, FablewrightError, GenerationError
from .requests import Event, Finished, GenerationRequest, Limits, Queued, Started, Text
from .threads import in_passing_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

_GATHER_S = 0.05  # text of this long shares a message, which costs Ray about as much as 50 tokens cost the model
_TRIES = 20  # failures in a row, without one new token, before a stream is given up
_PAUSE_S = 0.1  # before the second try, longer before each later one
_BUSY_SHARE = 0.7  # of a replica's slots, above which Serve starts another replica


class Replica:
    """One engine on one machine of the cluster. It knows nothing of who asks, or of the other replicas."""

    async def __init__(self, checkpoint: Path, settings: EngineSettings, limits: Limits) -> None:  # type: ignore[misc]
        """Load the checkpoint from this machine's disk; Serve sends no work before that is done."""
        loaded = await in_passing_thread(load_checkpoint, checkpoint)
        self._engine = await Engine(loaded, settings, limits).__aenter__()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Give one stream's events; the engine joins the text that gathers between two messages."""
        async with aclosing(self._engine.generate(request)) as events:
            async for event in events:
                yield event
                if isinstance(event, Text):
                    await asyncio.sleep(_GATHER_S)

    async def export_state(self, text: str) -> bytes:
        """Return the state of a story after `text`."""
        return await self._engine.export_state(text)

    async def check_health(self) -> None:
        """Raise GenerationError when this replica can write no more; Serve then replaces it."""
        if not self._engine.is_running:
            raise GenerationError("the engine of this replica has stopped")


class RemoteEngine:
    """The replicas of one checkpoint, used like one Engine: `async with RemoteEngine(…) as engine`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: EngineSettings,
        limits: Limits | None = None,
        *,
        redeploy: bool = False,
    ) -> None:
        """`redeploy` replaces replicas that run by new ones, one by one, for a checkpoint that has changed."""
        self.name = checkpoint.name
        self.checkpoint = replace(checkpoint, model=None)  # the replicas load its weights: free ours
        self.tokenizer = checkpoint.tokenizer
        self.settings = settings
        self._redeploy = redeploy
        self._limits = limits or Limits()
        self._handle: Any = None
        self._open: set[_Progress] = set()
        self._tokens = 0
        self._end_at: float | None = None  # when running streams end; set once the engine is closing
        self._waiting: set[asyncio.Timeout] = set()
        self._is_idle = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Join the cluster and wait for the first replica. Raises ConfigError where there is no cluster to join."""
        self._handle = await asyncio.to_thread(self._deploy)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace_s: float | None = None) -> None:
        """Refuse new streams and end running ones after `grace_s`. The replicas stay: other processes use them."""
        loop = asyncio.get_running_loop()
        end_at = loop.time() + (self.settings.shutdown_grace_s if grace_s is None else grace_s)
        self._end_at = end_at if self._end_at is None else min(self._end_at, end_at)
        for limit in self._waiting:
            limit.reschedule(self._end_at)
        while self._open:
            self._is_idle.clear()
            await self._is_idle.wait()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Give the events of one stream, whatever happens to single replicas. Raises what Engine.generate raises."""
        if self._handle is None or self._end_at is not None:
            raise ClosedError("the engine is shutting down; please try again in a moment")
        self._limits.check(request)
        slots, queue = self._room()
        if len(self._open) >= slots + queue:
            raise BusyError(f"all {slots} slots are taken and {queue} streams are waiting")
        self._open.add(progress := _Progress(request))
        try:
            async for event in self._persist(progress):
                if told := progress.note(event):
                    yield told
        except TimeoutError:
            yield progress.shut_down()
        finally:
            self._tokens += len(progress.given) - len(request.given)
            self._open.discard(progress)
            self._is_idle.set()

    @property
    def is_running(self) -> bool:
        """Whether it has joined the cluster, which replaces replicas that die."""
        return self._handle is not None

    async def export_state(self, text: str) -> bytes:
        """Return the state of a story after `text`, as Engine.export_state does."""
        state: bytes = await self._handle.options(stream=False, method_name="export_state").remote(text)
        return state

    def snapshot(self) -> EngineStats:
        """Return what this process has asked for. What the replicas do together is on Ray's own dashboard."""
        slots, queue = self._room()
        running = sum(progress.has_started for progress in self._open)
        return EngineStats(
            checkpoint=self.name,
            slots=slots,
            queue=queue,
            running=running,
            waiting=len(self._open) - running,
            tokens=self._tokens,
            cached_states=0,
            cached_bytes=0,
            cache_hits=0,
            cache_misses=0,
        )

    def _room(self) -> tuple[int, int]:
        """Return how many streams all replicas together can run, and how many can wait."""
        settings = self.settings
        return settings.slots * settings.ray_max_replicas, settings.queue * settings.ray_max_replicas

    async def _persist(self, progress: "_Progress") -> AsyncGenerator[Event, None]:
        """Ask one replica after another, until the stream has finished."""
        while True:
            try:
                async with aclosing(self._attempt(progress.rest())) as events:
                    while event := await self._before_the_end(anext(events, None)):
                        yield event
                        if isinstance(event, Finished):
                            return
                raise _ReplicaLostError("the stream broke off")
            except _ReplicaLostError as error:
                progress.failures += 1
                log.warning("replica lost: tokens=%d tries=%d reason=%s", len(progress.given), progress.failures, error)
                if progress.failures == _TRIES:
                    raise GenerationError("no machine could go on with this text; please try again later") from error
                await self._before_the_end(asyncio.sleep(_PAUSE_S * progress.failures))

    async def _before_the_end(self, waited_for: Awaitable[T]) -> T:
        """Wait. Raises TimeoutError when the engine is closed and its grace is over."""
        async with asyncio.timeout_at(self._end_at) as limit:
            self._waiting.add(limit)
            try:
                return await waited_for
            finally:
                self._waiting.discard(limit)

    async def _attempt(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Ask one replica. Raises _ReplicaLostError when it cannot be asked any more, else what its engine raised."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        response = self._handle.remote(request)
        try:
            async for event in response:
                yield event
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ClosedError):
                raise _ReplicaLostError("it is shutting down") from error
            raise cause if isinstance(cause, FablewrightError) else _unexpected(cause) from error
        except (RayError, RayServeException) as error:
            raise _ReplicaLostError(type(error).__name__) from error
        finally:
            response.cancel()

    def _deploy(self) -> Any:
        """Return a handle to this checkpoint's replicas, having started them where nobody has yet."""
        try:
            import ray
            from ray import serve
        except ImportError as error:
            raise ConfigError('[engine] backend "ray" needs: pip install "fablewright[cluster]"') from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        if not ray.is_initialized():
            try:
                ray.init(address=self.settings.ray_address, log_to_driver=False, configure_logging=False)
            except ConnectionError as error:
                where = self.settings.ray_address
                raise ConfigError(
                    f"[engine] ray_address {where}: there is no Ray cluster; start it with `ray start`"
                ) from error
        serve.start(proxy_location="Disabled")
        application = f"fablewright-{self.name}"
        found = serve.status().applications.get(application)
        if self._redeploy or found is None or found.status in ("DEPLOY_FAILED", "DELETING"):
            log.info("waiting for replicas: checkpoint=%s at_least=%d", self.name, self.settings.ray_min_replicas)
            try:
                serve.run(self._deployment(), name=application, route_prefix=None)
            except RuntimeError as error:
                if found is None:  # else replicas that served before may still do
                    serve.delete(application)
                raise ConfigError(
                    f"the replicas of {self.name} do not start: does every machine of the cluster have this code, and "
                    f"the checkpoint at {self.checkpoint.path.resolve()}? `serve status` shows what they say"
                ) from error
        return serve.get_app_handle(application).options(stream=True, method_name="generate")

    def _deployment(self) -> Any:
        from ray import serve

        settings = self.settings
        cores = settings.threads or 2
        return serve.deployment(
            autoscaling_config={
                "min_replicas": settings.ray_min_replicas,
                "max_replicas": settings.ray_max_replicas,
                "target_ongoing_requests": _BUSY_SHARE * settings.slots,
            },
            max_ongoing_requests=settings.slots + settings.queue,
            health_check_period_s=2,
            health_check_timeout_s=10,
            graceful_shutdown_timeout_s=settings.shutdown_grace_s,
            ray_actor_options={"num_cpus": cores},
        )(Replica).bind(self.checkpoint.path.resolve(), settings.model_copy(update={"threads": cores}), self._limits)


class _ReplicaLostError(Exception):
    """A replica died, or its machine, or the way to it."""


class _Progress:
    """What one stream has told so far: enough to go on elsewhere, and to keep a second start from showing."""

    def __init__(self, request: GenerationRequest) -> None:
        self.given = list(request.given)
        self.failures = 0  # since the last new token
        self.has_started = False
        self._request = request
        self._began_at = time.monotonic()
        self._first_text_s: float | None = None
        self._prompt_tokens = 0

    def rest(self) -> GenerationRequest:
        """Return what is still to be written."""
        return replace(self._request, given=tuple(self.given))

    def note(self, event: Event) -> Event | None:
        """Take in an event; return it as the reader is to see it, None where it was told before."""
        now_s = time.monotonic() - self._began_at
        match event:
            case Queued() | Started() if self.has_started:
                return None
            case Started():
                self.has_started, self._prompt_tokens = True, event.prompt_tokens
            case Text():
                self.failures = 0
                self.given += event.ids
                self._first_text_s = self._first_text_s or now_s
            case Finished():
                return replace(event, time_to_first_token_s=self._first_text_s, duration_s=now_s)
        return event

    def shut_down(self) -> Finished:
        """Return the end of a stream that was cut off."""
        return Finished(
            reason="shutdown",
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self.given),
            time_to_first_token_s=self._first_text_s,
            duration_s=time.monotonic() - self._began_at,
        )


def _unexpected(error: BaseException) -> FablewrightError:
    log.error("replica failed: error=%r", error)
    return GenerationError("this stream failed; please try again")
