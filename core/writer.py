"""The one way to a generation, shared by page, bot, HTTP and command line: it runs the engine and keeps the log.

A border closes the iterator to cancel. The row is durable before `Finished` is given, so nobody is told that a text is
done which the log could lose.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Literal, Protocol

from .errors import StoreError
from .requests import Event, Finished, GenerationRequest, Started, Text
from .store import Store
from .tables import Generation

Source = Literal["web", "discord", "api", "cli"]


class Stream(Protocol):
    """The events of one generation, iterated over; closing it cancels."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return what gives the events."""

    async def aclose(self) -> None:
        """Free the stream at once."""


class Engine(Protocol):
    """What writes a text; a real engine, or one on another machine."""

    def generate(self, request: GenerationRequest) -> Stream:
        """Start a stream."""


class Engines(Protocol):
    """Engines by the name of their checkpoint."""

    async def get(self, name: str | None = None) -> Engine:
        """Return the engine of a checkpoint, of the default one for None."""


class Writer:
    """Writes texts and logs them."""

    def __init__(self, engines: Engines, store: Store) -> None:
        self._engines = engines
        self._store = store

    async def write(
        self,
        request: GenerationRequest,
        *,
        source: Source,
        user_key: str | None = None,
        guild_key: str | None = None,
        checkpoint: str | None = None,
        keep_text: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """Give the events of one generation. Raises what the engine raises, and StoreError when the log is full.

        Without `keep_text`, or where config.toml or the installation's setting of that name forbids it, the row holds
        neither prompt nor completion nor stop strings.
        """
        record = _Record(request, keeps_text=keep_text and await self._may_keep_text())
        engine = await self._engines.get(checkpoint)  # last: after any other wait, a swap may have closed it
        record.row.writer_id = self._store.log.writer_id
        record.row.source, record.row.user_key, record.row.guild_key = source, user_key, guild_key
        record.row.checkpoint = checkpoint
        try:
            async with contextlib.aclosing(engine.generate(request)) as events:
                async for event in events:
                    if not record.is_open:
                        self._store.log.start(record.row)
                        record.is_open = True
                    record.note(event)
                    if isinstance(event, Finished):
                        record.is_open = False
                        await self._store.log.finish(record.row)
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            record.end("cancelled")
            raise
        except Exception as error:
            record.end("error", str(error))
            raise
        finally:
            if record.is_open:
                with contextlib.suppress(StoreError):  # nobody is told that this one is done
                    await self._store.log.finish(record.row)

    async def _may_keep_text(self) -> bool:
        if not self._store.log_settings.keep_text:
            return False
        try:
            return bool((await self._store.settings.get("installation")).get("keep_text", True))
        except StoreError:  # not known, and the database is away: text that is not kept can do no harm
            return False


class _Record:
    """The row of a generation as it comes to be. What changes with every token is kept beside it until the end.

    To set an attribute of a row costs SQLAlchemy about 1 % of what a token costs the model.
    """

    def __init__(self, request: GenerationRequest, *, keeps_text: bool) -> None:
        sampling = request.sampling
        self._began = time.monotonic()
        self._keeps_text = keeps_text
        self._parts: list[str] = []
        self._tokens = 0
        self._first_text_s: float | None = None
        self.is_open = False  # started in the log, and not finished there
        self.row = Generation(
            request_id=uuid.uuid4().hex,
            started_at=datetime.now(UTC),
            prompt=request.prompt if keeps_text else None,
            completion=None,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            cache_strength=sampling.cache_strength,
            stop=list(sampling.stop) if keeps_text else None,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            pace=request.pace,
            prompt_tokens=0,
            completion_tokens=0,
            reason="running",
        )

    def note(self, event: Event) -> None:
        """Take what an event tells into the row."""
        row = self.row
        match event:
            case Text():
                if self._keeps_text:
                    self._parts.append(event.text)
                self._tokens += event.tokens
                if self._first_text_s is None:
                    self._first_text_s = time.monotonic() - self._began
            case Started():
                row.checkpoint, row.seed, row.prompt_tokens = event.checkpoint, event.seed, event.prompt_tokens
            case Finished():
                row.prompt_tokens = event.prompt_tokens
                self._tokens, self._first_text_s = event.completion_tokens, event.time_to_first_token_s
                self.end(event.reason, event.message, event.duration_s)

    def end(self, reason: str, message: str | None = None, duration_s: float | None = None) -> None:
        """Close the row, unless it is closed already."""
        if self.row.reason != "running":
            return
        row = self.row
        row.reason, row.message = reason, message
        row.completion_tokens, row.time_to_first_token_s = self._tokens, self._first_text_s
        row.duration_s = time.monotonic() - self._began if duration_s is None else duration_s
        row.completion = "".join(self._parts) if self._keeps_text else None
