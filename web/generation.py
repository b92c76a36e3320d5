"""From what a visitor asked to a generation that runs: settings laid over each other, limits checked, counts kept.

The WebSocket and the HTTP interface share it; both only show the events.
"""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from core.engines import Engines
from core.errors import StoreError
from core.requests import Event, GenerationRequest, SamplingDefaults, sampling_params
from core.requests import Limits as RequestLimits
from core.store import Store
from core.writer import Writer

from .limits import Limits
from .metrics import Metrics
from .problems import RefusedError
from .streams import Opened
from .visitors import Visitor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one visitor wants written. `sampling` holds only what was asked for; None in it means not asked."""

    visitor: Visitor
    source: Literal["web", "api"]
    prompt: str
    sampling: Mapping[str, Any]
    checkpoint: str | None = None
    pace: float = 0.0
    top_logprobs: int | None = None


class Generations:
    """Opens generations for every route."""

    def __init__(
        self,
        *,
        engines: Engines,
        writer: Writer,
        store: Store,
        defaults: SamplingDefaults,
        request_limits: RequestLimits,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.engines = engines
        self.defaults = defaults
        self.request_limits = request_limits
        self.limits = limits
        self._writer = writer
        self._store = store
        self._metrics = metrics

    async def open(self, wanted: Wanted, *, personal: bool = True) -> Opened:
        """Check a wish and return its generation, not yet running. Raises InputError or RefusedError.

        `personal` lays the visitor's own settings under what was asked; otherwise config.toml's alone.
        """
        own = await self._settings_of(wanted.visitor)
        settings = {name: own[name] for name in SamplingDefaults.model_fields if name in own} if personal else {}
        asked = {name: value for name, value in wanted.sampling.items() if value is not None}
        mine = own.get("checkpoint") if personal else None  # which may have gone since it was chosen
        checkpoint = self.checkpoint_name(wanted.checkpoint or (mine if mine in self.engines.names() else None))
        if "max_tokens" not in asked:  # nobody's wish is refused for what they did not ask
            length = settings.get("max_tokens", self.defaults.max_tokens)
            settings["max_tokens"] = min(length, self.request_limits.max_tokens)
        request = GenerationRequest(
            prompt=wanted.prompt,
            sampling=sampling_params(self.defaults, **settings | asked),
            pace=wanted.pace,
            top_logprobs=wanted.top_logprobs,
        )
        self.request_limits.check(request)
        events = self._events(wanted, request, checkpoint, keep_text=own.get("keep_text") is not False)
        novelty = (await self.engines.get(checkpoint)).checkpoint.novelty  # by the end, a swap may have taken it away
        return Opened(seed=request.sampling.seed, checkpoint=checkpoint, events=events, novelty=novelty)

    def checkpoint_name(self, name: str | None) -> str:
        """Return a checkpoint's name, the default's for None. Raises RefusedError `unknown_checkpoint`."""
        names = self.engines.names()
        if name is None:
            return self.engines.default_name
        if name not in names:
            raise RefusedError("unknown_checkpoint", f"checkpoint must be one of {', '.join(names)}, got {name[:60]!r}")
        return name

    async def _settings_of(self, visitor: Visitor) -> dict[str, Any]:
        try:
            return await self._store.settings.resolve(user_key=visitor.user_key)
        except StoreError as error:
            log.warning("settings cannot be read, so config.toml decides, and no text is kept: error=%s", error)
            return {"keep_text": False}

    async def _events(
        self, wanted: Wanted, request: GenerationRequest, checkpoint: str, *, keep_text: bool
    ) -> AsyncGenerator[Event, None]:
        with self.limits.stream(wanted.visitor.client), self._metrics.stream(wanted.source) as observe:
            events = self._writer.write(
                request,
                source=wanted.source,
                user_key=wanted.visitor.user_key,
                guild_key=None,
                checkpoint=checkpoint,
                keep_text=keep_text,
            )
            async with aclosing(events):
                async for event in events:
                    observe(event)
                    yield event
