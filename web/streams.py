"""Generations that WebSockets listen to: each runs in a task of its own and remembers what it has said.

Because the text is kept here and not in a socket, a slow client makes its pieces longer and never holds up the engine,
and a dropped connection can pick a resumable stream up again. It knows nothing of frames or HTTP.
"""

import asyncio
import reprlib
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from core.errors import FablewrightError, GenerationError, InputError
from core.novelty import NoveltyIndex
from core.requests import Event, Finished, Queued, Started, Text

from .problems import translate

_CANDIDATE_BYTES = 186  # of memory, measured: an object, its number, its text and its bytes
_MOST_KEPT_BYTES = 256 * 2**20
_WEIGHED_EVERY_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A checked request, ready to run: what `accepted` reports, and the events to come."""

    seed: int
    checkpoint: str
    events: AsyncGenerator[Event, None]
    novelty: NoveltyIndex | None  # of the checkpoint's books, where they are known


class Stream:
    """One generation in flight and everything it has said.

    `on_news` is called whenever there is more to tell, `on_taken` when another listener takes over.
    """

    def __init__(self, open_stream: Callable[[], Awaitable[Opened]], *, resumable: bool) -> None:
        """Start at once. What `open_stream` raises becomes `error`."""
        self.key = secrets.token_urlsafe(16)
        self.resumable = resumable
        self.opened: Opened | None = None
        self.has_begun = False  # the engine took it: it is queued or running
        self.queued: Queued | None = None
        self.pieces: list[Text] = []
        self.kept_bytes = 0  # of memory, about, for what a reader who comes back may ask for
        self.finished: Finished | None = None
        self.copied_share: float | None = None
        self.error: FablewrightError | None = None
        self.on_news: Callable[[], None] = _nobody
        self.on_taken: Callable[[], None] = _nobody
        self._texts: list[str] = []  # pieces may be dropped once they are sent, this is not
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._first_text_at: float | None = None
        self._began_at = time.monotonic()
        self._task = asyncio.create_task(self._run(open_stream))
        self._task.add_done_callback(self._conclude)

    @property
    def written(self) -> int:
        """Return how many characters have been written so far."""
        return sum(map(len, self._texts))

    def stop(self) -> None:
        """End the generation now; it is logged as cancelled."""
        self._task.cancel()

    async def wait(self) -> None:
        """Return when the generation has ended and stands in the log."""
        await asyncio.wait([self._task])

    async def _run(self, open_stream: Callable[[], Awaitable[Opened]]) -> None:
        self.opened = await open_stream()
        async with aclosing(self.opened.events) as events:
            async for event in events:
                if isinstance(event, Finished) and (novelty := self.opened.novelty):
                    copied = await asyncio.to_thread(novelty.copied, "".join(self._texts))
                    self.copied_share = round(copied.share, 4)
                self._take(event)

    def _conclude(self, task: asyncio.Task[None]) -> None:
        # Not in _run: a task that is cancelled before its first step never enters its coroutine.
        if task.cancelled():
            self.finished = self.finished or self._cancelled()
        elif isinstance(error := task.exception(), Exception):
            self.error = translate(error)
        self.on_news()

    def _take(self, event: Event) -> None:
        self.has_begun = True
        match event:
            case Queued():
                self.queued = event
            case Started():
                self.queued = None
                self._prompt_tokens = event.prompt_tokens
            case Text():
                self._first_text_at = self._first_text_at or time.monotonic()
                self._completion_tokens += event.tokens
                self.pieces.append(event)
                candidates = sum(1 + len(token.top) for token in event.logprobs)
                self.kept_bytes += len(event.text) + _CANDIDATE_BYTES * (event.tokens + candidates)
                self._texts.append(event.text)
            case Finished(reason="error"):
                self.error = GenerationError(event.message or "the generation failed")
            case Finished():
                self.finished = event
        if not isinstance(event, Started):
            self.on_news()

    def _cancelled(self) -> Finished:
        first = self._first_text_at
        return Finished(
            reason="cancelled",
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            time_to_first_token_s=first and first - self._began_at,
            duration_s=time.monotonic() - self._began_at,
        )


class Reader:
    """One listener's place in a stream: takes what is new since it last looked."""

    def __init__(self, stream: Stream, *, received: int = 0) -> None:
        """Begin after `received` characters of completion. Raises InputError where there are not as many."""
        written = stream.written
        if received > written:
            got = reprlib.repr(received)
            raise InputError(f"received must be at most the {written} characters written, got {got}", "received")
        self.stream = stream
        self._skip = received
        self._next = 0

    def take(self) -> Text | None:
        """Return everything new as one piece, or None."""
        pieces = self.stream.pieces[self._next :]
        if self.stream.resumable:
            self._next += len(pieces)
        else:
            self.stream.pieces.clear()  # nobody else will ever ask for them
        while pieces and self._skip:
            self._skip_into(pieces)
        if not pieces:
            return None
        return Text(
            text="".join(piece.text for piece in pieces),
            tokens=sum(piece.tokens for piece in pieces),
            logprobs=tuple(token for piece in pieces for token in piece.logprobs),
        )

    def _skip_into(self, pieces: list[Text]) -> None:
        first = pieces.pop(0)
        if self._skip >= len(first.text):
            self._skip -= len(first.text)
        else:  # a cut within a piece: its tokens have been received in part, so only its text goes on
            pieces.insert(0, Text(text=first.text[self._skip :], tokens=first.tokens))
            self._skip = 0


class KeptStreams:
    """Resumable streams by key, each kept until `keep_s` after it lost its listener or ended, whichever is later."""

    def __init__(self, keep_s: float, *, most: int = 10_000, most_bytes: int = _MOST_KEPT_BYTES) -> None:
        """`most` counts them all, `most_bytes` the memory of those that nobody listens to."""
        self._keep_s = keep_s
        self._most, self._most_bytes = most, most_bytes
        self._streams: dict[str, Stream] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._weighing: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, key: str) -> Stream | None:
        """Return the stream, if it is still kept; `hold` it to listen."""
        return self._streams.get(key)

    def hold(self, stream: Stream) -> None:
        """Remember a stream for as long as somebody listens to it."""
        if timer := self._timers.pop(stream.key, None):
            timer.cancel()
        self._streams[stream.key] = stream
        while len(self._streams) > self._most:
            self._drop(next(iter(self._streams)))

    def release(self, stream: Stream) -> None:
        """Let a stream go after a while, unless somebody asks for it."""
        stream.on_news = stream.on_taken = _nobody
        if stream.key in self._streams:
            if timer := self._timers.pop(stream.key, None):
                timer.cancel()
            loop = asyncio.get_running_loop()
            self._timers[stream.key] = loop.call_later(self._keep_s, self._drop, stream.key)
            self._weighing = self._weighing or loop.call_later(_WEIGHED_EVERY_S, self._make_room)

    def close(self) -> None:
        """Stop and forget every stream."""
        for key in list(self._streams):
            self._drop(key)
        if self._weighing:
            self._weighing.cancel()

    def _make_room(self) -> None:
        """Drop the longest forsaken where together they take too much memory; those still written on are growing."""
        self._weighing = None
        taken = sum(self._streams[key].kept_bytes for key in self._timers)
        for key in list(self._timers):
            if taken <= self._most_bytes:
                break
            taken -= self._streams[key].kept_bytes
            self._drop(key)
        if self._timers:
            self._weighing = asyncio.get_running_loop().call_later(_WEIGHED_EVERY_S, self._make_room)

    def _drop(self, key: str) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._streams.pop(key).stop()


def _nobody() -> None:
    """Stand in for a listener."""
