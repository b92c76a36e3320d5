"""One generation as its reply sees it: what has been written so far and how it stands."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator

from core.requests import Event, Finished, Queued, Started, Text

log = logging.getLogger(__name__)


class Stream:
    """Listens to a generation's events; `news` is set whenever there is something new to show."""

    def __init__(self, events: AsyncGenerator[Event, None], *, seed: int) -> None:
        self.text = ""
        self.tokens = 0
        self.seed = seed
        self.checkpoint: str | None = None
        self.queue: Queued | None = None
        self.reason: str | None = None  # why it is over; None while it is not
        self.prompt_tokens = 0
        self.news = asyncio.Event()
        self._started_at = self._last_text_at = time.monotonic()
        self._ends_as = "cancelled"
        self._has_begun = asyncio.Event()
        self._error: BaseException | None = None
        self._task = asyncio.create_task(self._listen(events), name="stream")

    @property
    def is_over(self) -> bool:
        return self.reason is not None

    @property
    def tokens_per_s(self) -> float | None:
        """Return how fast it was written, once there is enough to tell: not with the first token."""
        seconds = self._last_text_at - self._started_at
        return self.tokens / seconds if self.tokens > 1 and seconds > 0 else None

    async def begun(self) -> None:
        """Wait for the first event. Raises what the generation raised before it."""
        await self._has_begun.wait()
        if self._error is not None:
            raise self._error

    async def stop(self, reason: str = "cancelled") -> None:
        """End it now, for `reason`; what was written stays. Returns when the log has it."""
        if not self._task.done():
            self._ends_as = reason
            self._task.cancel()
        await asyncio.wait({self._task})

    async def _listen(self, events: AsyncGenerator[Event, None]) -> None:
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    self._take(event)
                    self._tell()
        except asyncio.CancelledError:
            pass  # only `stop` cancels this task; the log has its row when the iterator is closed
        except Exception as error:  # a task's border: `begun` raises it, or after the first event the log says it
            self._ends_as = "error"
            if self._has_begun.is_set():
                log.exception("a stream failed seed=%d", self.seed)
            else:
                self._error = error
        self.reason = self.reason or self._ends_as
        self._tell()

    def _take(self, event: Event) -> None:
        match event:
            case Queued():
                self.queue = event
            case Started():
                self.queue, self.seed, self.checkpoint = None, event.seed, event.checkpoint
                self.prompt_tokens, self._started_at = event.prompt_tokens, time.monotonic()
            case Text():
                self.text += event.text
                self.tokens += event.tokens
                self._last_text_at = time.monotonic()
            case Finished():
                self.reason, self.tokens = event.reason, event.completion_tokens

    def _tell(self) -> None:
        self._has_begun.set()
        self.news.set()
