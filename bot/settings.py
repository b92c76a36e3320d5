"""`[bot]` of config.toml, and Discord's two addresses."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route
from pydantic import BaseModel, ConfigDict, Field, field_validator

from core.errors import ConfigError
from core.requests import RANGES

TOKEN, API_URL, GATEWAY_URL = "DISCORD_TOKEN", "DISCORD_API_URL", "DISCORD_GATEWAY_URL"


class BotSettings(BaseModel):
    """`[bot]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pace: float = 12.0
    edit_interval_s: float = Field(default=1.0, ge=1.0)
    longest: int = Field(default=2000, ge=1, le=4096)
    cooldown_s: float = Field(default=0.0, ge=0)
    daily_quota: int = Field(default=0, ge=0)
    restart_grace_s: float = Field(default=8.0, ge=0)

    @field_validator("pace")
    @classmethod
    def _check_pace(cls, pace: float) -> float:
        """Refuse at the start what core would refuse to everybody who writes."""
        if pace not in RANGES["pace"]:
            raise ValueError(f"must be in {RANGES['pace']}, got {pace}")
        return pace


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where Discord is: None is Discord itself."""

    api_url: str | None
    gateway_url: str | None

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read both addresses. Raises ConfigError for what is none, and where only one is set: the token would leak."""
        api_url, gateway_url = environ.get(API_URL) or None, environ.get(GATEWAY_URL) or None
        if (api_url is None) != (gateway_url is None):
            missing = GATEWAY_URL if gateway_url is None else API_URL
            raise ConfigError(f"{API_URL} and {GATEWAY_URL} must be set together, {missing} is not set")
        for name, url, schemes in ((API_URL, api_url, ("http", "https")), (GATEWAY_URL, gateway_url, ("ws", "wss"))):
            if url is not None and not _is_address(url, schemes):
                raise ConfigError(f"{name} must look like {schemes[1]}://host/…, got {url}")
        return cls(api_url, gateway_url)

    def apply(self) -> None:
        """Point discord.py there. It keeps its addresses on its classes, so this comes before a client is made."""
        if self.api_url is not None and self.gateway_url is not None:
            Route.BASE = self.api_url.rstrip("/")
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(self.gateway_url)


def _is_address(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parsed = yarl.URL(url)
    except ValueError:
        return False
    return parsed.scheme in schemes and bool(parsed.host)
