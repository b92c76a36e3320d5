"""The real bot, with a tiny real model and a real SQLite file, against the fake Discord on the wire."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot.__main__ import opened
from bot.client import Fablewright
from bot.settings import Addresses, BotSettings
from core.config import Config
from tests.bot.watching import RunningBot
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel, Person


@pytest.fixture
def config_file(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A config.toml for the tiny model and a database of its own; texts come at once."""
    path = tmp_path / "config.toml"
    path.write_text(
        f'[checkpoint]\nfolders = ["{tiny_checkpoint.parent}"]\nname = "tiny"\n'
        f'[database]\nurl = "sqlite:///{tmp_path}/data/test.sqlite3"\n'
        "[bot]\npace = 0\n"
    )
    return path


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    """A Discord of the test's own. Whatever was sent to it in the end could ping nobody."""
    async with FakeDiscord() as fake:
        yield fake
    assert all(body.get("allowed_mentions") == {"parse": []} for body in fake.outgoing_messages())


@pytest.fixture
def addresses(fake: FakeDiscord) -> Iterator[Addresses]:
    """Point discord.py at the fake, and back afterwards."""
    before = Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY
    addresses = Addresses(fake.api_url, fake.gateway_url)
    addresses.apply()
    yield addresses
    Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = before


@pytest.fixture
def running_bot(
    fake: FakeDiscord, addresses: Addresses, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> RunningBot:
    @contextlib.asynccontextmanager
    async def running(**overrides: object) -> AsyncIterator[Fablewright]:
        """Run the client until it is connected; `bot__pace=5` overrides a key of config.toml."""
        for name, value in overrides.items():
            monkeypatch.setenv(f"FABLEWRIGHT_{name.upper()}", str(value))
        async with opened(Config(config_file)) as client:
            task = asyncio.create_task(client.start(fake.token))
            connected = asyncio.create_task(fake.until(lambda: fake.gateway.is_connected and fake.commands))
            await asyncio.wait({task, connected}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            await connected
            yield client
            await client.close()
            await asyncio.wait({task})

    return running


class ImpatientSettings(BotSettings):
    edit_interval_s: float = 0.3


@pytest.fixture
def impatient(fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a bot edit sooner than it may be set to, and more than Discord allows; test_live_reply keeps to both."""
    fake.limits.edits = 100
    monkeypatch.setattr("bot.__main__.BotSettings", ImpatientSettings)


@pytest.fixture
def channel(fake: FakeDiscord) -> Channel:
    return fake.channel(fake.guild())


@pytest.fixture
async def bot(impatient: None, running_bot: RunningBot, channel: Channel) -> AsyncIterator[Fablewright]:
    async with running_bot() as client:
        yield client


@pytest.fixture
def ada(fake: FakeDiscord) -> Person:
    return fake.person("Ada")


@pytest.fixture
def eve(fake: FakeDiscord) -> Person:
    return fake.person("Eve")
