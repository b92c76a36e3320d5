"""`python -m bot` up to its connection, without a process of its own: what it refuses, and what it asks Discord for."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.__main__ import main
from bot.settings import API_URL, GATEWAY_URL, TOKEN, Addresses
from tests.bot.watching import RunningBot
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel

Refusal = Callable[[], str]


@pytest.fixture
def refusal(
    fake: FakeDiscord,
    addresses: Addresses,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Refusal:
    """Start the bot, which must refuse, and return what it said. Its environment would do, were it not changed."""
    monkeypatch.setattr(sys, "argv", ["bot"])
    monkeypatch.setenv("FABLEWRIGHT_CONFIG", str(config_file))
    for name, value in {TOKEN: fake.token, API_URL: fake.api_url, GATEWAY_URL: fake.gateway_url}.items():
        monkeypatch.setenv(name, value)

    def run() -> str:
        assert main() == 2
        assert fake.rest.requests == []
        return capsys.readouterr().err

    return run


def test_without_a_token_it_says_how_to_get_one(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN)
    errors = refusal()
    assert errors.startswith("DISCORD_TOKEN is not set.")
    assert "https://discord.com/developers/applications" in errors


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (API_URL, "discord.example/api/v10", "DISCORD_API_URL must look like https://host/…, got discord.example"),
        (TOKEN, "one\ntwo", "DISCORD_TOKEN must be one word of plain characters"),
    ],
)
def test_what_cannot_be_right_is_told(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert refusal().startswith(told)


def test_one_address_alone_is_refused(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the token would go to the real gateway."""
    monkeypatch.delenv(GATEWAY_URL)
    assert "DISCORD_GATEWAY_URL is not set" in refusal()


async def test_commands_are_sent_only_when_they_changed(
    fake: FakeDiscord, running_bot: RunningBot, channel: Channel
) -> None:
    async def start(**overrides: object) -> None:
        before = len(fake.gateway.identifies)
        async with running_bot(**overrides):
            await fake.until(lambda: len(fake.gateway.identifies) > before)

    for _ in range(2):
        await start()
    assert len(fake.requests("PUT", "/commands")) == 1
    assert sorted(fake.commands) == [
        "Continue this",
        "about",
        "my-data",
        "privacy",
        "server-settings",
        "settings",
        "write",
    ]
    await start(bot__longest=500)
    assert len(fake.requests("PUT", "/commands")) == 2


async def test_it_asks_for_no_intent_but_guilds(fake: FakeDiscord, running_bot: RunningBot, channel: Channel) -> None:
    async with running_bot():
        assert [identify["intents"] for identify in fake.gateway.identifies] == [1]
