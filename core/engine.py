"""One engine, many writers: requests in, an async iterator of events out for each.

The asyncio side of generation. One worker thread runs the steps; this side checks requests, bounds the queue, hands
events to their readers and cancels streams whose readers have gone. Knows nothing of sockets, Discord or the log.
"""

import asyncio
import dataclasses
import hashlib
import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from .checkpoint import Checkpoint
from .decoder import Decoder
from .errors import BusyError, CheckpointError, ClosedError, InputError
from .generation import Generation
from .products import Precision
from .requests import Finished, FinishReason, GenerationRequest, Limits, SamplingDefaults, SamplingParams
from .state_cache import StateCache
from .stream import Stream, TextWriter
from .stream_state import StreamState
from .worker import Bundle, Worker, WorkerStats

_LONG_PROMPT_CHARS = 4096  # longer ones are encoded beside the event loop: 20 KB take about 5 ms
_MAX_THREADS = 8


class EngineSettings(BaseModel):
    """`[engine]`: how the network is run and how many may use it at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Precision = "int8"
    threads: int = Field(default=0, ge=0, le=64)  # 0 = one for each core
    slots: int = Field(default=1024, ge=1, le=65536)
    batch: int = Field(default=256, ge=1, le=4096)
    queue: int = Field(default=1024, ge=0)
    prefill_chunk: int = Field(default=16, ge=1)
    state_cache_mb: int = Field(default=64, ge=0)
    shutdown_grace_s: float = Field(default=10.0, ge=0)
    backend: Literal["local", "ray"] = "local"
    ray_address: str = "auto"
    ray_min_replicas: int = Field(default=1, ge=1)
    ray_max_replicas: int = Field(default=4, ge=1)


@dataclasses.dataclass(slots=True, kw_only=True)
class EngineStats(WorkerStats):
    """A look at an engine, for metrics: the worker's totals, its limits and its state cache."""

    checkpoint: str
    slots: int
    queue: int
    cached_states: int
    cached_bytes: int
    cache_hits: int
    cache_misses: int


class Engine:
    """Generates text from one checkpoint. `async with Engine(checkpoint, settings) as engine` runs and closes it."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, limits: Limits | None = None) -> None:
        self.name = checkpoint.name
        self.tokenizer = checkpoint.tokenizer
        self.settings = settings
        self.checkpoint = checkpoint
        self._limits = limits or Limits()
        self._readers: weakref.WeakValueDictionary[Stream, Generation] = weakref.WeakValueDictionary()
        self._open: set[Stream] = set()
        self._encoding: set[asyncio.Future[None]] = set()  # long prompts on their way to the worker
        self._worker: Worker | None = None
        self._is_closed = False
        self._threads = settings.threads or min(len(os.sched_getaffinity(0)), _MAX_THREADS)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        worker = self._make_worker()
        worker.start()
        await asyncio.wrap_future(worker.ready)
        worker.ended.add_done_callback(lambda _: self._soon(self._abandon))
        self._worker = worker
        self.checkpoint = dataclasses.replace(self.checkpoint, model=None)  # its weights are packed now: free them
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def generate(self, request: GenerationRequest) -> Generation:
        """Start a stream; iterate over the result for its events.

        Raises InputError where the request is over the limits, BusyError when the queue is full, ClosedError when the
        engine is shutting down; all at once, before anything is queued.
        """
        return self._open_stream(request)

    @property
    def is_running(self) -> bool:
        """Whether there is a worker to write: it leaves when the engine is closed, or by a fault of ours."""
        return self._worker is not None and not self._worker.ended.done()

    async def export_state(self, text: str) -> bytes:
        """The state of a story after `text`, a few kilobytes, to go on from with `GenerationRequest.state`."""
        params = SamplingParams(**SamplingDefaults().model_dump(), seed=0)
        generation = self._open_stream(GenerationRequest(prompt=text, sampling=params), over="length")
        async for _ in generation:
            pass
        return generation.export_state()

    def snapshot(self) -> EngineStats:
        """Totals and what is going on now."""
        assert self._worker is not None, "snapshot before the engine was entered"
        cache = self._worker.cache
        return EngineStats(
            **dataclasses.asdict(self._worker.stats),
            checkpoint=self.name,
            slots=self.settings.slots,
            queue=self.settings.queue,
            cached_states=len(cache),
            cached_bytes=cache.size_bytes,
            cache_hits=cache.hits,
            cache_misses=cache.misses,
        )

    async def close(self, grace_s: float | None = None) -> None:
        """Refuse new streams, let those there are finish for `grace_s` seconds, end the rest with reason "shutdown".

        Of several calls, the one that leaves the least time decides.
        """
        self._is_closed = True
        if self._encoding:
            await asyncio.wait(self._encoding)  # or their streams would reach a worker that has left
        if self._worker is not None:
            self._worker.close(self.settings.shutdown_grace_s if grace_s is None else grace_s)
            await asyncio.wrap_future(self._worker.ended)  # comes after the last bundle, which has been delivered then

    def _make_worker(self) -> Worker:
        settings = self.settings
        return Worker(
            build=self._build_decoder,
            tokenizer=self.tokenizer,
            checkpoint=self.name,
            slots=settings.slots,
            prefill_chunk=settings.prefill_chunk,
            cache=StateCache(settings.state_cache_mb << 20),
            threads=self._threads,
            deliver=partial(self._soon, self._deliver),
        )

    def _build_decoder(self) -> Decoder:
        """Called by the worker's thread."""
        settings, model = self.settings, self.checkpoint.model
        if not hasattr(model, "recurrent_weights"):
            architecture = self.checkpoint.config.architecture
            raise CheckpointError(f"{self.name}: expected an LSTM-family model to write with, got {architecture}")
        self._fingerprint = _fingerprint(model, settings.precision)
        decoder = Decoder(
            model.recurrent_weights(),
            precision=settings.precision,
            slots=settings.slots,
            max_rows=min(settings.batch, settings.slots),
            threads=self._threads,
            unwritable_ids=self.tokenizer.unwritable_ids,
        )
        self._state_size = decoder.state_size
        return decoder

    def _open_stream(self, request: GenerationRequest, *, over: FinishReason | None = None) -> Generation:
        if self._worker is None or self._is_closed or not self.is_running:
            raise ClosedError("the engine is shutting down; please try again in a moment")
        self._limits.check(request)
        if len(self._open) >= self.settings.slots + self.settings.queue:
            raise BusyError(f"all {self.settings.slots} slots are taken and {self.settings.queue} streams are waiting")
        if request.state is not None and request.sampling.cache_strength:
            message = (
                f"cache_strength must be 0 with a state, got {request.sampling.cache_strength}; send the text instead"
            )
            raise InputError(message, "cache_strength")
        restored = None if request.state is None else self._unpack(request.state)
        stream = Stream(
            request=request,
            restored=restored,
            writer=TextWriter(self.tokenizer, request.sampling.stop),
            over=over,
        )
        generation = Generation(stream, self._worker, self._fingerprint)
        self._open.add(stream)
        self._readers[stream] = generation
        if len(request.prompt) <= _LONG_PROMPT_CHARS:
            self._encode_and_submit(stream)
        else:
            encoding = self._loop.run_in_executor(None, self._encode_and_submit, stream)
            self._encoding.add(encoding)
            encoding.add_done_callback(self._encoding.discard)
        return generation

    def _encode_and_submit(self, stream: Stream) -> None:
        assert self._worker is not None
        stream.begin(self.tokenizer)  # cannot fail: a GenerationRequest holds Unicode text only
        self._worker.submit(stream)

    def _unpack(self, data: bytes) -> StreamState:
        return StreamState.unpack(
            data,
            fingerprint=self._fingerprint,
            state_size=self._state_size,
            vocab_size=self.tokenizer.vocab_size,
        )

    def _soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Called by the worker's thread."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop has been closed over our heads: nobody is left to read
            return

    def _abandon(self) -> None:
        """End what a worker has left behind that died: one that was closed leaves nothing."""
        message = "the engine has stopped; please try again"
        self._deliver([(stream, stream.finish("error", message)) for stream in self._open])

    def _deliver(self, bundle: Bundle) -> None:
        for stream, events in bundle:
            if isinstance(events[-1], Finished):
                self._open.discard(stream)
            reader = self._readers.get(stream)
            if reader is not None:
                reader.receive(events)


def _fingerprint(model: Any, precision: Precision) -> bytes:
    """What ties an exported state to these weights at this precision."""
    digest = hashlib.blake2b(precision.encode(), digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.numpy())
    return digest.digest()
