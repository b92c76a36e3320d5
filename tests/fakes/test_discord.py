"""The fake Discord against a bare discord.py client: what it accepts, refuses, limits and replays."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
import discord
import pytest
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket
from discord.http import Route

from .discord import FakeDiscord, RefusedError
from .discord_world import Channel, Person


class Echo(discord.AutoShardedClient):
    """The least client that can be talked to."""

    def __init__(self) -> None:
        super().__init__(intents=discord.Intents(guilds=True), guild_ready_timeout=0.05)
        self.tree = app_commands.CommandTree(self)
        self.seen: list[discord.Interaction] = []
        self.tree.command(name="echo", description="Say it again")(self._echo)

    async def _echo(self, interaction: discord.Interaction, text: app_commands.Range[str, 1, 100]) -> None:
        self.seen.append(interaction)
        await interaction.response.defer()
        await interaction.edit_original_response(content=text)

    async def setup_hook(self) -> None:
        await self.tree.sync()


@contextlib.asynccontextmanager
async def connected(fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Echo]:
    monkeypatch.setattr(Route, "BASE", fake.api_url)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(fake.gateway_url))
    async with Echo() as client:
        task = asyncio.create_task(client.start(fake.token))
        ready = asyncio.create_task(client.wait_until_ready())
        await asyncio.wait({task, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield client
        await client.close()
        await asyncio.wait({task}, timeout=60)


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
async def ada(fake: FakeDiscord) -> Person:
    return fake.person("Ada")


@pytest.fixture
async def channel(fake: FakeDiscord) -> Channel:
    return fake.channel()


@pytest.fixture
async def client(fake: FakeDiscord, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Echo]:
    async with connected(fake, monkeypatch) as client:
        yield client


async def test_a_command_is_acknowledged_and_answered(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "echo", text="hello")
    await fake.until(lambda: asked.original and asked.original.content == "hello")
    assert asked.response == {"type": 5}
    assert asked.acknowledged_after_s is not None
    assert fake.statuses() == {200}


async def test_the_guild_and_its_channels_are_known_to_the_client(fake: FakeDiscord, client: Echo) -> None:
    assert [guild.name for guild in client.guilds] == ["Readers"]
    assert [channel.name for guild in client.guilds for channel in guild.channels] == ["stories"]


async def test_an_option_out_of_its_range_never_reaches_the_bot(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    with pytest.raises(RefusedError, match="at most 100, got 101"):
        await fake.slash(ada, channel, "echo", text="x" * 101)


async def test_a_second_response_is_refused_with_40060(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "echo", text="hello")
    await fake.until(lambda: client.seen and asked.original and asked.original.content)
    client.seen[0].response._response_type = None  # discord.py would not even try
    with pytest.raises(discord.HTTPException) as refused:
        await client.seen[0].response.defer()
    assert refused.value.code == 40060


async def test_a_late_response_is_refused_with_10062(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "echo", text="hello")
    await fake.until(lambda: client.seen)
    asked.response, asked.sent_at = None, time.perf_counter() - 3.1
    client.seen[0].response._response_type = None
    with pytest.raises(discord.NotFound) as refused:
        await client.seen[0].response.defer()
    assert refused.value.code == 10062


async def test_a_token_of_15_minutes_ago_is_refused_with_50027(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    await fake.slash(ada, channel, "echo", text="hello", age_s=15 * 60 + 1)
    await fake.until(lambda: 401 in fake.statuses())


async def test_2001_characters_are_refused(fake: FakeDiscord, client: Echo, ada: Person, channel: Channel) -> None:
    await fake.slash(ada, channel, "echo", text="x" * 2001, checked=False)
    await fake.until(lambda: 400 in fake.statuses())


async def test_a_sixth_edit_in_five_seconds_meets_429_when_headers_are_ignored(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "echo", text="hello")
    await fake.until(lambda: asked.original and asked.original.content)
    url = f"{fake.api_url}/webhooks/{fake.application_id}/{asked.token}/messages/@original"
    async with aiohttp.ClientSession() as session:
        answers = [await session.patch(url, json={"content": str(i)}, headers=JSON) for i in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 429]
    assert "Via" in answers[-1].headers


async def test_a_dropped_gateway_is_resumed_and_what_was_missed_is_replayed(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    await fake.gateway.drop()
    asked = await fake.slash(ada, channel, "echo", text="missed")
    await fake.until(lambda: asked.original and asked.original.content == "missed")
    assert len(fake.gateway.resumes) == 1


async def test_the_gateway_may_ask_for_a_reconnect(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    await fake.gateway.ask_to_reconnect()
    asked = await fake.slash(ada, channel, "echo", text="after")
    await fake.until(lambda: asked.original and asked.original.content == "after")
    assert len(fake.gateway.resumes) == 1


async def test_an_invalid_session_makes_the_client_identify_again(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    await fake.gateway.invalidate()
    await fake.until(lambda: len(fake.gateway.identifies) == 2)  # discord.py waits 5 s before it identifies again
    asked = await fake.slash(ada, channel, "echo", text="again")
    await fake.until(lambda: asked.original and asked.original.content == "again")


async def test_a_wrong_token_is_refused(fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_token, fake.token = fake.token, "another"
    monkeypatch.setattr(Route, "BASE", fake.api_url)
    async with Echo() as client:
        with pytest.raises(discord.LoginFailure):
            await client.login(fake_token)


async def test_a_scripted_503_is_retried_by_the_client(
    fake: FakeDiscord, client: Echo, ada: Person, channel: Channel
) -> None:
    fake.fail("PATCH .*@original", status=503, times=1)
    asked = await fake.slash(ada, channel, "echo", text="hello")
    await fake.until(lambda: asked.original and asked.original.content == "hello")
    assert 503 in fake.statuses()


JSON = {"Content-Type": "application/json"}
