"""`[web]`: where the server listens, who may use it and how much."""

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from yarl import URL

_NAMELESS = "file", "ftp"  # schemes whose pages have no origin that a browser would name


def _as_origin(text: str) -> str:
    try:
        origin = URL(text).origin()
    except ValueError:  # no scheme or no host
        origin = URL()
    if text != str(origin) or origin.scheme in ("", *_NAMELESS):
        raise ValueError(f"expected an origin as browsers send it, such as https://desk.example, got {text}")
    return text


Network = Annotated[str, AfterValidator(lambda text: str(ipaddress.ip_network(text)))]
Origin = Annotated[str, AfterValidator(_as_origin)]


class WebSettings(BaseModel):
    """`[web]`. Every key stands in config.toml with its unit and reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    require_key: bool = False
    public_without_keys: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    allowed_origins: tuple[Origin, ...] = ()
    metrics_from: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")

    requests_per_minute: int = Field(default=120, ge=0)
    streams_per_client: int = Field(default=16, ge=0)
    streams_per_socket: int = Field(default=256, ge=1)
    sockets_per_client: int = Field(default=32, ge=0)
    max_sockets: int = Field(default=4000, ge=1)
    max_message_bytes: int = Field(default=4 * 2**20, ge=2**16)
    max_choices: int = Field(default=16, ge=1)

    reports: Path = Path("docs/results")
    resume_s: float = Field(default=60, ge=0)
    idle_timeout_s: float = Field(default=900, gt=0)
    handover_socket: Path = Path("data/web.sock")
    request_timeout_s: float = Field(default=30, gt=0)
    send_timeout_s: float = Field(default=30, gt=0)

    @cached_property
    def proxy_networks(self) -> "Networks":
        """Return the networks whose X-Forwarded headers are believed."""
        return Networks(self.trusted_proxies)

    @cached_property
    def metrics_networks(self) -> "Networks":
        """Return the networks that may read /metrics."""
        return Networks(self.metrics_from)


class Networks:
    """A set of networks; `address in networks` takes the text of an address and is False for anything else."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)
