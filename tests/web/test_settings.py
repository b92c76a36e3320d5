"""config.toml says everything that WebSettings knows, with the same defaults."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from web.settings import WebSettings


def test_config_toml_holds_every_key_with_its_default() -> None:
    table = tomllib.loads(Path("config.toml").read_text(encoding="utf-8"))["web"]
    assert WebSettings(**table) == WebSettings()
    assert table.keys() == WebSettings.model_fields.keys()


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        WebSettings(trusted_proxies=["the proxy"])


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "desk.example",
        "null",
        "ftp://desk.example",
        "file:///desk.html",
        "https://desk.example/",
        "https://Desk.example",
        "https://desk.example:443",
        "https://user@desk.example",
        "https://[::1",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="allowed_origins"):
        WebSettings(allowed_origins=[origin])


def test_an_origin_may_have_a_port() -> None:
    origins = ("http://localhost:5173", "https://[::1]:8443")
    assert WebSettings(allowed_origins=origins).allowed_origins == origins


def test_an_origin_may_be_that_of_an_extension_or_an_app() -> None:
    origins = ("chrome-extension://abcdefghijklmnop", "tauri://localhost")
    assert WebSettings(allowed_origins=origins).allowed_origins == origins
