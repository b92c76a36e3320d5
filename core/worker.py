"""The step loop: many streams, one batch, one thread.

Each turn takes in new streams, reads a chunk of every waiting prompt, then makes one token for every stream that is
due. Streams join and leave between steps. A stream that is paced, or whose reader is behind, simply is not due. Events
leave in bundles, so that the event loop on the other side wakes once a turn and not once a token.

The worker owns slots, decoder, sampler and state cache; the other side reaches it only through `submit`, `cancel`,
`wake` and `close`.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from .decoder import Decoder
from .logprobs import describe
from .neural_cache import WINDOW, NeuralCache
from .requests import Event, FinishReason, Queued, TokenLogprob
from .sampling import NOT_FINITE, Sampler, log_probabilities, restrict
from .state_cache import StateCache
from .stream import UNREAD_TOKENS, Stream
from .tokenizer import Tokenizer

log = logging.getLogger(__name__)

Bundle = list[tuple[Stream, list[Event]]]

_STATE_INTERVAL = 64  # tokens between two cached states of one stream: at most this many are read again

_QUEUE_NEWS_S = 1.0  # seconds between two looks at what to tell the waiting
_SHORTEST_FLUSH_S, _LONGEST_FLUSH_S = 0.01, 0.25  # seconds of text in one event: alone, and in a crowd
_FLUSH_S_A_STREAM = 0.00025  # so that the event loop has at most about 4,000 events a second to carry
_PACE_CATCH_UP_S = 0.25  # how much of a delay a paced stream may make up for by hurrying
_SHORTEST_REST_S = 0.001  # streams due this close together share a step


@dataclass(slots=True)
class WorkerStats:
    """Totals since the start, and what is going on now."""

    running: int = 0
    waiting: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    finished: int = 0
    failed: int = 0


class Worker:
    """Runs streams until it is closed. `deliver` is called from the worker's thread with every bundle of events."""

    def __init__(
        self,
        *,
        build: Callable[[], Decoder],
        tokenizer: Tokenizer,
        checkpoint: str,
        slots: int,
        prefill_chunk: int,
        cache: StateCache,
        threads: int,
        deliver: Callable[[Bundle], None],
    ) -> None:
        self._build = build
        self._tokenizer = tokenizer
        self._checkpoint = checkpoint
        self._free_slots = list(range(slots))[::-1]
        self._slots = slots
        self._prefill_chunk = prefill_chunk
        self._threads = threads
        self._deliver = deliver
        self.cache = cache
        self.stats = WorkerStats()
        self._submitted: deque[Stream] = deque()
        self._cancelled: deque[Stream] = deque()
        self._waiting: deque[Stream] = deque()
        self._running: list[Stream] = []
        self._bundle: Bundle = []
        self._wake = threading.Event()
        self._close_at: float | None = None
        self._tokens_per_s = 100.0  # of one stream at full speed, as lately seen
        self._queue_news_at = 0.0
        self.ready: Future[None] = Future()  # fails where `build` does
        self.ended: Future[None] = Future()  # done when the thread leaves, whatever made it leave
        self._thread = threading.Thread(target=self._run, name=f"engine-{checkpoint}", daemon=True)

    def start(self) -> None:
        """Build the decoder, then run streams."""
        for future in (self.ready, self.ended):
            future.set_running_or_notify_cancel()  # whoever gives up waiting for it must not cancel it
        self._thread.start()

    def submit(self, stream: Stream) -> None:
        """Take in a stream; its events follow."""
        self._submitted.append(stream)
        self._wake.set()

    def cancel(self, stream: Stream) -> None:
        """End a stream by the next step; ended streams are ignored."""
        stream.is_cancelled = True
        self._cancelled.append(stream)
        self._wake.set()

    def wake(self) -> None:
        """Look again: a reader has caught up."""
        self._wake.set()

    def close(self, grace_s: float) -> None:
        """Let the streams there are finish for `grace_s` seconds, end the rest, and then the thread.

        Called again, it can only shorten what is left of the grace.
        """
        close_at = time.monotonic() + grace_s
        self._close_at = close_at if self._close_at is None else min(self._close_at, close_at)
        self._wake.set()

    def _run(self) -> None:
        """Build in this thread too: every thread that runs a product keeps helpers of its own (OpenMP), and once they
        outnumber the cores they sleep between any two operations, which makes a step three times slower."""
        torch.set_num_threads(self._threads)
        try:
            self._decoder = self._build()
            self._sampler = Sampler(self._decoder.padded_vocab_size)
        except Exception as error:
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        try:
            with torch.inference_mode():
                self._loop()
        finally:
            # Or the weights would wait for a garbage collection: the engine around them lies in a cycle.
            del self._decoder, self._sampler
            self.ended.set_result(None)

    def _loop(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._receive()
                has_worked = self._prefill()
                has_worked |= self._decode()
            except Exception:
                log.exception("step_failed streams=%d", len(self._running))
                for stream in self._running:
                    if stream.slot >= 0:  # the others had their end before
                        self._finish(stream, "error", "the engine failed at this step; please try again")
                has_worked = True
            self._running = [stream for stream in self._running if stream.slot >= 0]
            self._post()
            if self._close_at is not None and not (self._running or self._waiting or self._submitted):
                return
            if not has_worked:
                self._wake.wait(self._rest_s())

    def _receive(self) -> None:
        """Take in what came from the other side since the last turn."""
        while self._submitted:
            stream = self._submitted.popleft()
            if stream.is_cancelled:
                self._finish(stream, "cancelled")
            else:
                self._waiting.append(stream)
        while self._cancelled:
            stream = self._cancelled.popleft()
            if stream.slot >= 0 or stream in self._waiting:
                self._finish(stream, "cancelled")
        if self._close_at is not None and time.monotonic() >= self._close_at:
            for stream in [*self._waiting, *self._running]:
                self._finish(stream, "shutdown")
        self._running = [stream for stream in self._running if stream.slot >= 0]
        while self._waiting and self._free_slots:
            self._admit(self._waiting.popleft())
        self._tell_the_waiting()
        self.stats.running, self.stats.waiting = len(self._running), len(self._waiting)

    def _admit(self, stream: Stream) -> None:
        stream.slot = self._free_slots.pop()
        stream.started_at = time.monotonic()
        self._running.append(stream)
        self._send(stream, [stream.started(self._checkpoint)])
        self.stats.prompt_tokens += stream.prompt_tokens
        if stream.restored is not None:
            self._decoder.write_state(stream.slot, stream.restored.state)
        elif (cached := self.cache.longest(stream.tokens, self._make_cache(stream))) is not None:
            stream.fed = cached[0]
            self._decoder.write_state(stream.slot, cached[1])
            self.stats.prompt_tokens_cached += stream.fed - 1
        else:
            self._decoder.reset(stream.slot)

    def _make_cache(self, stream: Stream) -> int:
        """Give a stream its neural cache, if it asks for one. Returns how many tokens need not be read again."""
        read = len(stream.tokens) - 1
        if not stream.request.sampling.cache_strength:
            return read
        stream.cache = NeuralCache(self._decoder.widths[-1], stream.request.sampling.cache_strength)
        return max(read - WINDOW, 0)

    def _prefill(self) -> bool:
        """Read a chunk of every prompt that is not yet read, all in one batch. Says whether there was one."""
        rows = [stream for stream in self._running if stream.is_prefilling][: self._decoder.max_rows]
        has_worked = bool(rows)
        for _ in range(self._prefill_chunk):
            if not rows:
                break
            self._decoder.advance([stream.tokens[stream.fed] for stream in rows], [stream.slot for stream in rows])
            for row, stream in enumerate(rows):
                if stream.cache is not None:
                    stream.cache.record(stream.fed, self._decoder.hidden[row], stream.tokens[stream.fed + 1])
                stream.fed += 1
                if stream.fed % _STATE_INTERVAL == 0 or not stream.is_prefilling:
                    self._remember(stream)
            rows = [stream for stream in rows if stream.is_prefilling]
        for stream in self._running:
            if stream.over and not stream.is_prefilling:
                self._finish(stream, stream.over)
        return has_worked

    def _decode(self) -> bool:
        """Make one token for every stream that is due. Says whether there was one."""
        now = time.monotonic()
        due = [s for s in self._running if s.due_at <= now and s.unread < UNREAD_TOKENS]
        due = [s for s in due if s.slot >= 0 and not s.is_prefilling]
        for start in range(0, len(due), self._decoder.max_rows):
            self._step(due[start : start + self._decoder.max_rows])
        if due:
            elapsed = time.monotonic() - now
            self._tokens_per_s += 0.05 * (1 / elapsed - self._tokens_per_s)
            self.stats.steps += 1
            self.stats.step_seconds += elapsed
            self.stats.tokens += len(due)
        return bool(due)

    def _step(self, rows: list[Stream]) -> None:
        logits = self._decoder.step([s.tokens[-1] for s in rows], [s.slot for s in rows])  # (B, V)
        asked: dict[int, torch.Tensor] = {}  # as the model has them, without the neural cache
        for row, stream in enumerate(rows):
            if stream.request.top_logprobs is not None:
                asked[row] = logits[row, : self._decoder.vocab_size].clone()
            if stream.cache is not None:
                stream.cache.mix(stream.fed, self._decoder.hidden[row], logits[row].numpy())
            if stream.must_begin_with_space:
                for table in (logits[row], asked.get(row)):
                    if table is not None:
                        restrict(table, self._tokenizer.spaced_ids)
        ids = self._sampler.draw(logits, [stream.next_draw() for stream in rows])
        now = time.monotonic()
        flush_s = min(max(_SHORTEST_FLUSH_S, _FLUSH_S_A_STREAM * len(self._running)), _LONGEST_FLUSH_S)
        for row, (stream, id) in enumerate(zip(rows, ids, strict=True)):
            if stream.cache is not None:
                stream.cache.record(stream.fed, self._decoder.hidden[row], id)
            stream.fed += 1
            try:
                self._accept(stream, id, asked.get(row), now, flush_s)
            except Exception:
                log.exception("stream_failed tokens=%d", stream.generated)
                self._finish(stream, "error", "this stream failed; please try again")

    def _accept(self, stream: Stream, id: int, logits: torch.Tensor | None, now: float, flush_s: float) -> None:
        is_first = stream.first_token_at is None
        if is_first:
            stream.first_token_at = stream.due_at = now
        if id == NOT_FINITE:
            log.error("logits_not_finite tokens=%d", stream.generated)
            return self._finish(stream, "error", "the model's numbers overflowed in this stream; please try again")
        if id == self._tokenizer.document_id:
            return self._finish(stream, "end")
        reason = stream.accept(id, None if logits is None else self._describe(stream, id, logits))
        if reason is not None:
            return self._finish(stream, reason)
        if stream.fed % _STATE_INTERVAL == 0:
            self._remember(stream)
        if stream.request.pace:
            stream.due_at = max(stream.due_at, now - _PACE_CATCH_UP_S) + 1 / stream.request.pace
        is_pausing = stream.ahead >= UNREAD_TOKENS or stream.due_at - now > flush_s
        if is_first or is_pausing or now - stream.flushed_at >= flush_s:
            stream.flushed_at = now
            self._send(stream, stream.take_text())
        return None

    def _describe(self, stream: Stream, id: int, logits: torch.Tensor) -> TokenLogprob:
        logprob, top = log_probabilities(logits, id, stream.request.top_logprobs or 0)
        return describe(stream.writer.decoder, id, logprob, top, skips_space=stream.must_begin_with_space)

    def _finish(self, stream: Stream, reason: FinishReason, message: str | None = None) -> None:
        if stream.slot >= 0:
            if reason != "error":
                stream.final_state = self._decoder.read_state(stream.slot)
                self._remember(stream)
            self._free_slots.append(stream.slot)
            stream.slot = -1
        elif stream in self._waiting:
            self._waiting.remove(stream)
        self.stats.finished += 1
        self.stats.failed += reason == "error"
        self._send(stream, stream.finish(reason, message))

    def _remember(self, stream: Stream) -> None:
        """Keep the state after the tokens read so far, unless the story's start is unknown."""
        if stream.offset or stream.fed == 0:
            return
        digest = stream.prefix.extend(stream.tokens, stream.fed)
        if not self.cache.touch(digest):
            self.cache.put(digest, stream.fed, self._decoder.read_state(stream.slot))

    def _tell_the_waiting(self) -> None:
        now = time.monotonic()
        if not self._waiting or (now < self._queue_news_at and self._waiting[-1].queue_position):
            return
        self._queue_news_at = now + _QUEUE_NEWS_S
        ends = sorted(self._remaining_s(stream) for stream in self._running)
        for position, stream in enumerate(self._waiting, 1):
            if stream.queue_position != position:
                stream.queue_position = position
                rounds, place = divmod(position - 1, self._slots)
                estimate_s = ends[place] + rounds * self._whole_s(stream)
                self._send(stream, [Queued(position=position, estimate_s=estimate_s)])

    def _remaining_s(self, stream: Stream) -> float:
        """How long a running stream goes on at most, at the pace of now."""
        return (stream.request.sampling.max_tokens - stream.generated) / self._rate(stream)

    def _whole_s(self, stream: Stream) -> float:
        return stream.request.sampling.max_tokens / self._rate(stream)

    def _rate(self, stream: Stream) -> float:
        """Tokens a second: its pace, where the engine keeps up with it."""
        return min(stream.request.pace or self._tokens_per_s, self._tokens_per_s)

    def _send(self, stream: Stream, events: list[Event]) -> None:
        if events:
            self._bundle.append((stream, events))

    def _post(self) -> None:
        if self._bundle:
            bundle, self._bundle = self._bundle, []
            self._deliver(bundle)

    def _rest_s(self) -> float:
        """How long nothing will be due, at most as long as a thread can wait: OverflowError would end this one."""
        due = [s.due_at for s in self._running if s.unread < UNREAD_TOKENS]
        if self._close_at is not None:
            due.append(self._close_at)
        rest_s = min(due, default=math.inf) - time.monotonic()
        return min(max(rest_s, _SHORTEST_REST_S), threading.TIMEOUT_MAX)
