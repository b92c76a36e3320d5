"""A visitor's own settings, and everything kept about them: to see, to take away, to delete."""

import asyncio
import json
import reprlib
from collections.abc import Callable
from typing import Any

from aiohttp.web import Request, Response, RouteDef, delete, get, put
from pydantic import BaseModel, Field

from core.errors import InputError
from core.requests import (
    MAX_STOP_CHARS,
    MAX_STOPS,
    MAX_TOP_LOGPROBS,
    RANGES,
    SamplingDefaults,
    sampling_params,
)
from core.store import Store

from .bodies import Body, read_body, respond
from .generation import Generations
from .settings import WebSettings
from .visitors import COOKIE, user_of


class SettingsBody(Body):
    """What a visitor sets for themselves; null goes back to the default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    cache_strength: float | None = None
    max_tokens: int | None = None
    checkpoint: str | None = Field(default=None, description="a name from GET /api/checkpoints")
    keep_text: bool | None = Field(default=None, description="false keeps this visitor's texts out of the prompt log")


class RangeView(BaseModel):
    """What a setting may be."""

    low: float
    high: float
    low_is_open: bool


class LimitsView(BaseModel):
    """The largest requests that this server accepts."""

    max_prompt_bytes: int
    max_tokens: int
    max_stops: int
    max_stop_chars: int
    max_top_logprobs: int
    streams_per_socket: int


class SettingsView(BaseModel):
    """What holds for a visitor, what they set themselves, what config.toml says, and what is possible."""

    settings: dict[str, Any]
    own: dict[str, Any]
    defaults: dict[str, Any]
    ranges: dict[str, RangeView]
    limits: LimitsView


class Account:
    """The routes /api/settings and /api/me."""

    def __init__(
        self, store: Store, generations: Generations, settings: WebSettings, hang_up: Callable[[str], None]
    ) -> None:
        """`hang_up` closes the sockets of the visitor with this user key."""
        self._hang_up = hang_up
        self._store = store
        self._generations = generations
        self._settings = settings

    def routes(self) -> list[RouteDef]:
        """Return the routes, in the order of docs/protocol.md."""
        return [
            get("/api/settings", self.settings),
            put("/api/settings", self.change),
            get("/api/me/export", self.export),
            delete("/api/me", self.forget),
        ]

    async def settings(self, request: Request) -> Response:
        """Show every setting that holds for the visitor, and its range."""
        user_key = user_of(request)
        defaults = self._generations.defaults.model_dump() | {
            "checkpoint": self._generations.checkpoint_name(None),
            "keep_text": self._store.log_settings.keep_text,
        }
        known = defaults.keys()
        resolved = await self._store.settings.resolve(user_key=user_key)
        own = await self._store.settings.get("user", user_key)
        view = SettingsView(
            settings=defaults | {name: value for name, value in resolved.items() if name in known},
            own={name: value for name, value in own.items() if name in known},
            defaults=defaults,
            ranges={
                name: RangeView(low=allowed.low, high=allowed.high, low_is_open=allowed.low_is_open)
                for name, allowed in RANGES.items()
            },
            limits=LimitsView(
                max_prompt_bytes=self._generations.request_limits.max_prompt_bytes,
                max_tokens=self._generations.request_limits.max_tokens,
                max_stops=MAX_STOPS,
                max_stop_chars=MAX_STOP_CHARS,
                max_top_logprobs=MAX_TOP_LOGPROBS,
                streams_per_socket=self._settings.streams_per_socket,
            ),
        )
        return respond(view)

    async def change(self, request: Request) -> Response:
        """Set what the body names; null unsets it."""
        body = await read_body(request, SettingsBody, timeout_s=self._settings.request_timeout_s)
        changes = body.model_dump(exclude_unset=True)
        sampling = {name: value for name, value in changes.items() if name in SamplingDefaults.model_fields}
        sampling_params(self._generations.defaults, **sampling)  # raises where a value is out of its range
        most = self._generations.request_limits.max_tokens
        if (body.max_tokens or 0) > most:
            raise InputError(f"max_tokens must be in [1, {most}], got {reprlib.repr(body.max_tokens)}", "max_tokens")
        if body.checkpoint is not None:
            self._generations.checkpoint_name(body.checkpoint)
        await self._store.settings.set("user", user_of(request), **changes)
        return await self.settings(request)

    async def export(self, request: Request) -> Response:
        """Give the visitor everything kept about them as a file."""
        kept = await self._store.privacy.export(user_of(request))
        return Response(
            text=await asyncio.to_thread(json.dumps, kept, ensure_ascii=False, indent=1),
            content_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="fablewright-export.json"'},
        )

    async def forget(self, request: Request) -> Response:
        """Delete everything kept about the visitor; the next visit begins as a stranger's."""
        await self._store.privacy.delete(user_of(request))
        self._hang_up(user_of(request))  # what they ask next would be kept under the deleted key
        response = Response(status=204)
        response.del_cookie(COOKIE, path="/")
        return response
