"""/metrics: what the web border sees, and looks at the engines and the log, in Prometheus' text format.

Every app has a registry of its own, so that two servers in one process do not mix.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from aiohttp.typedefs import Handler
from aiohttp.web import Request, Response, StreamResponse, middleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from core.engines import Engines
from core.requests import Event, Finished, Text
from core.store import Store

from .problems import ERROR_CODE, RefusedError
from .settings import WebSettings
from .visitors import VISITOR

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The web border's own metrics, and the route that shows all of them."""

    def __init__(self, settings: WebSettings, *, engines: Engines, store: Store) -> None:
        self._settings = settings
        self.registry = CollectorRegistry()
        self.registry.register(_Core(engines, store))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.streams_open = Gauge(
            "web_streams_open", "Generations that this server's clients listen to", ["source"], registry=self.registry
        )
        self.sockets_open = Gauge("web_sockets_open", "WebSockets open", registry=self.registry)
        self._tokens = Counter("web_tokens", "Tokens sent to clients", ["source"], registry=self.registry)
        self._ended = Counter(
            "web_generations", "Generations ended, by reason", ["source", "reason"], registry=self.registry
        )
        self._errors = Counter("web_errors", "Errors shown to clients, by code", ["code"], registry=self.registry)
        self._first_token = Histogram(
            "web_time_to_first_token_seconds",
            "From a request to its first token",
            ["source"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._requests = Histogram(
            "web_request_seconds",
            "HTTP requests, from the whole head to the whole answer",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    @contextlib.contextmanager
    def stream(self, source: str) -> Iterator[Callable[[Event], None]]:
        """Count one generation for as long as the block runs; give what is to be told its events."""
        reason = "error"
        began_at = time.monotonic()
        has_text = False

        def observe(event: Event) -> None:
            nonlocal reason, has_text
            if isinstance(event, Text):
                self._tokens.labels(source).inc(event.tokens)
                if not has_text:
                    has_text = True
                    self._first_token.labels(source).observe(time.monotonic() - began_at)
            elif isinstance(event, Finished):
                reason = event.reason

        self.streams_open.labels(source).inc()
        try:
            yield observe
        except (GeneratorExit, asyncio.CancelledError):
            reason = "cancelled"
            raise
        finally:
            self.streams_open.labels(source).dec()
            self._ended.labels(source, reason).inc()

    def count_error(self, code: str) -> None:
        """Count an error that a client is shown."""
        self._errors.labels(code).inc()

    @middleware
    async def time_requests(self, request: Request, handler: Handler) -> StreamResponse:
        """Time every request by its route's pattern, so that ids do not multiply the series."""
        began_at = time.monotonic()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except (ConnectionError, asyncio.CancelledError):
            status = 499  # nobody's fault: the client left before its answer; nginx's number for that
            raise
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource else "none"
            if ERROR_CODE in request:
                self.count_error(request[ERROR_CODE])
            if route != "/ws":  # a socket's life is not a request's duration
                method = request.method if resource else "other"
                self._requests.labels(method, route, str(status)).observe(time.monotonic() - began_at)

    async def show(self, request: Request) -> Response:
        """Answer GET /metrics, to the networks that may read it."""
        if request[VISITOR].address not in self._settings.metrics_networks:
            raise RefusedError("forbidden", "metrics are only for the networks in metrics_from of config.toml")
        return Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Core(Collector):
    """Looks at engines and log when it is asked, so that neither has to know of metrics."""

    def __init__(self, engines: Engines, store: Store) -> None:
        self._engines = engines
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Give every metric as it stands now."""
        yield from self._of_engines()
        yield from self._of_log()

    def describe(self) -> list[Metric]:
        """Say nothing in advance: engines come and go."""
        return []

    def _of_engines(self) -> Iterator[Metric]:
        stats = [engine.snapshot() for engine in self._engines.loaded()]
        for field, (kind, name, what) in _ENGINE.items():
            metric = kind(name, what, labels=["checkpoint"])
            for one in stats:
                metric.add_metric([one.checkpoint], getattr(one, field))
            yield metric

    def _of_log(self) -> Iterator[Metric]:
        stats = self._store.log.stats()
        for field, (kind, name, what) in _LOG.items():
            yield kind(name, what, value=float(getattr(stats, field)))


_Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]

_ENGINE: dict[str, tuple[_Kind, str, str]] = {
    "running": (GaugeMetricFamily, "engine_streams_running", "Streams that have a slot"),
    "waiting": (GaugeMetricFamily, "engine_streams_waiting", "Streams that wait for a slot"),
    "slots": (GaugeMetricFamily, "engine_slots", "Streams that can run at once"),
    "queue": (GaugeMetricFamily, "engine_queue_size", "Streams that may wait"),
    "steps": (CounterMetricFamily, "engine_steps", "Steps of the network; tokens / steps is the mean batch"),
    "step_seconds": (CounterMetricFamily, "engine_step_seconds", "Time in all steps"),
    "tokens": (CounterMetricFamily, "engine_tokens", "Tokens written"),
    "prompt_tokens": (CounterMetricFamily, "engine_prompt_tokens", "Tokens of prompts, read or found in the cache"),
    "prompt_tokens_cached": (CounterMetricFamily, "engine_prompt_tokens_cached", "Of these, found in the cache"),
    "finished": (CounterMetricFamily, "engine_streams_finished", "Streams that ended"),
    "failed": (CounterMetricFamily, "engine_streams_failed", "Streams that ended by a fault"),
    "cached_states": (GaugeMetricFamily, "engine_cached_states", "States in the cache"),
    "cached_bytes": (GaugeMetricFamily, "engine_cached_bytes", "Memory of the cached states"),
    "cache_hits": (CounterMetricFamily, "engine_cache_hits", "Prompts whose beginning was in the cache"),
    "cache_misses": (CounterMetricFamily, "engine_cache_misses", "Prompts whose beginning was not"),
}
_LOG: dict[str, tuple[_Kind, str, str]] = {
    "rows": (CounterMetricFamily, "log_rows", "Rows made durable"),
    "commits": (CounterMetricFamily, "log_commits", "Commits; rows / commits is the mean group"),
    "commit_s": (CounterMetricFamily, "log_commit_seconds", "Time in all commits"),
    "waiting": (GaugeMetricFamily, "log_rows_waiting", "Rows that wait for the next commit"),
    "spooled_rows": (CounterMetricFamily, "log_spooled_rows", "Rows that went to the spool"),
    "spool_used_bytes": (GaugeMetricFamily, "log_spool_used_bytes", "Room taken in the spool"),
    "spool_size_bytes": (GaugeMetricFamily, "log_spool_size_bytes", "Room in the spool"),
    "is_database_away": (GaugeMetricFamily, "log_database_away", "1 while the database cannot be reached"),
    "interrupted": (CounterMetricFamily, "log_interrupted", "Generations of dead processes that were marked"),
}
