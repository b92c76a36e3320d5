"""The reader's end of a stream: its events as an async iterator, in the event loop's thread.

A reader that falls behind gets fewer, longer texts; one that goes away, by `aclose`, by cancellation or by dropping
the iterator, ends its stream by the next step.
"""

import asyncio
from collections import deque
from typing import Self

from .errors import GenerationError
from .requests import Event, Finished, Text
from .stream import UNREAD_TOKENS, Stream
from .worker import Worker


class Generation:
    """Async iterator over the events of one stream. The last one is `Finished`, unless the reader closed first."""

    def __init__(self, stream: Stream, worker: Worker, fingerprint: bytes) -> None:
        self._stream = stream
        self._worker = worker
        self._fingerprint = fingerprint
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._is_over:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self._cancel()
                raise
        event = self._events.popleft()
        if isinstance(event, Text):
            return self._consume(event)
        self._is_over = isinstance(event, Finished)
        return event

    async def aclose(self) -> None:
        """Cancel the stream; its slot is free by the next step. Nothing follows."""
        self._cancel()
        self._events.clear()

    def __del__(self) -> None:
        self._cancel()

    def export_state(self) -> bytes:
        """The stream's memory after its last token, to go on from with `GenerationRequest.state`.

        Raises GenerationError where there is no such state: the stream is running, failed, or ended at a stop string
        or the story's end. `Engine.export_state` makes one from the text instead.
        """
        state = self._stream.export() if self._is_over else None
        if state is None:
            raise GenerationError("expected a stream that ended right after a token; export the state of its text")
        return state.pack(self._fingerprint)

    def receive(self, events: list[Event]) -> None:
        """Take in events from the engine."""
        self._events.extend(events)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _cancel(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._worker.cancel(self._stream)

    def _consume(self, text: Text) -> Text:
        """Join all text that is ready into one event, and let the stream go on if it was waiting for its reader."""
        parts = [text]
        while self._events and isinstance(self._events[0], Text):
            parts.append(self._events.popleft())  # type: ignore[arg-type]
        if len(parts) > 1:
            logprobs = tuple(logprob for part in parts for logprob in part.logprobs)
            ids = tuple(id for part in parts for id in part.ids)
            text = Text(text="".join(x.text for x in parts), tokens=len(ids), logprobs=logprobs, ids=ids)
        was_paused = self._stream.unread >= UNREAD_TOKENS
        self._stream.consumed += text.tokens
        if was_paused:
            self._worker.wake()
        return text
