"""The real process, `python -m bot`: how it starts, how it stops, and what a restart in mid-story does."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.__main__ import AUTHENTICATION_FAILED
from tests.bot.watching import held, small_print, stands, words
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel, Person
from tests.tiny import TEXT

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(fake: FakeDiscord, config_file: Path) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "FABLEWRIGHT_CONFIG": str(config_file),
        "FABLEWRIGHT_BOT__PACE": "10",
        "DISCORD_TOKEN": fake.token,
        "DISCORD_API_URL": fake.api_url,
        "DISCORD_GATEWAY_URL": fake.gateway_url,
    }


@contextlib.asynccontextmanager
async def process(environment: dict[str, str], fake: FakeDiscord) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the bot until it is connected; killed at the end if it still runs."""
    identified = len(fake.gateway.identifies)
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", env=environment, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await fake.until(lambda: len(fake.gateway.identifies) > identified, timeout_s=60)
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


@contextlib.asynccontextmanager
async def starting(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the bot and listen to what it says; killed at the end if it still runs."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", env=environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def output(environment: dict[str, str]) -> tuple[int, str]:
    async with starting(environment) as running:
        _, errors = await running.communicate()
        return running.returncode or 0, errors.decode()


async def test_a_token_that_discord_refuses_is_told(environment: dict[str, str]) -> None:
    code, errors = await output(environment | {"DISCORD_TOKEN": "wrong"})
    assert code == 2
    assert "Discord refused the token in DISCORD_TOKEN" in errors
    assert "Traceback" not in errors


async def test_a_discord_that_cannot_be_reached_is_told(environment: dict[str, str]) -> None:
    code, errors = await output(environment | {"DISCORD_API_URL": "http://127.0.0.1:1/api"})
    assert code == 1
    assert "cannot reach Discord: Cannot connect to host 127.0.0.1:1" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(("route", "status"), [("GET /users/@me", 503), ("PUT /applications/", 403)])
async def test_a_discord_that_answers_with_an_error_is_told(
    environment: dict[str, str], fake: FakeDiscord, route: str, status: int
) -> None:
    fake.fail(route, status=status, times=9)
    code, errors = await output(environment)
    assert code == 1
    assert f"Discord answered {status} " in errors
    assert "Traceback" not in errors


async def test_a_token_that_is_reset_meanwhile_is_told(
    environment: dict[str, str], fake: FakeDiscord, channel: Channel
) -> None:
    async with starting(environment) as running:
        assert running.stderr is not None
        async for line in running.stderr:
            if b" ready user=" in line:
                break
        await fake.gateway.drop(AUTHENTICATION_FAILED)
        _, errors = await running.communicate()
        assert running.returncode == 2
        assert b"Discord refused the token in DISCORD_TOKEN" in errors
        assert b"Traceback" not in errors


async def test_a_second_bot_with_the_same_token_is_refused_and_the_first_goes_on(
    environment: dict[str, str], fake: FakeDiscord, channel: Channel, ada: Person
) -> None:
    async with process(environment, fake) as first:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=2000)
        await fake.until(lambda: asked.original and len(asked.original.edited_at) >= 2)
        code, errors = await output(environment)
        assert code == 1  # it may be the place of one that was lost a moment ago: worth another try
        assert f"a bot with this DISCORD_TOKEN runs already, as process {first.pid} on" in errors
        assert "Traceback" not in errors
        assert len(fake.gateway.identifies) == 1
        message = asked.original
        await fake.press(ada, message, "Stop")
        await stands(fake, asked)
        assert "interrupted" not in small_print(message)
    async with process(environment, fake):  # the first one was killed: its place is free
        assert len(fake.gateway.identifies) == 2


async def test_a_story_killed_midway_says_so_after_the_restart_and_goes_on(
    environment: dict[str, str], fake: FakeDiscord, channel: Channel, ada: Person
) -> None:
    async with process(environment, fake) as running:
        public = await fake.slash(ada, channel, "write", prompt="Once upon a time", length=500)
        private = await fake.slash(ada, channel, "write", prompt="The sea", length=500, private=True)
        for asked in (public, private):
            await fake.until(lambda asked=asked: asked.original and len(asked.original.edited_at) >= 3)
        running.kill()
        await running.wait()
    shown = [words(asked.reply) for asked in (public, private)]
    async with process(environment, fake):
        for asked, before in zip((public, private), shown, strict=True):
            message = await stands(fake, asked)
            assert small_print(message).endswith("interrupted by a restart: press Continue")
            assert words(message).startswith(before)
            await fake.press(ada, message, "Continue")
            await fake.until(lambda message=message: "Stop" in message.buttons)
            await fake.press(ada, message, "Stop")
            await stands(fake, asked)
            assert words(message).startswith(before)


async def test_a_private_story_killed_midway_goes_on_long_after_the_restart(
    environment: dict[str, str], fake: FakeDiscord, channel: Channel, ada: Person
) -> None:
    async with process(environment, fake) as running:
        asked = await fake.slash(ada, channel, "write", prompt=TEXT * 2, length=500, private=True)
        await fake.until(lambda: asked.followups and len(asked.followups[-1].edited_at) >= 3)
        running.kill()
        await running.wait()
    before = [words(message) for message in asked.messages]
    asked.id -= (16 * 60 * 1000) << 22  # for Discord it is 16 minutes old now
    async with process(environment, fake):
        await fake.until(lambda: 401 in fake.statuses())
        assert [words(message) for message in asked.messages] == before
        last = asked.messages[-1]
        await fake.press(ada, last, "Stop")
        await stands(fake, asked)
        assert small_print(last).endswith("interrupted by a restart: press Continue")
        await fake.press(ada, last, "Continue")
        await fake.until(lambda: "Stop" in last.buttons)
        await fake.press(ada, last, "Stop")
        await stands(fake, asked)
        assert words(last).startswith(before[-1])
        assert [words(message) for message in asked.messages[:-1]] == before[:-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])  # HUP: its terminal is closed
async def test_a_story_stopped_with_the_process_says_so_at_once(
    environment: dict[str, str], fake: FakeDiscord, channel: Channel, ada: Person, number: signal.Signals
) -> None:
    async with process(environment, fake) as running:
        asked = await fake.slash(ada, channel, "write", prompt="Once upon a time", length=500)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        running.send_signal(number)
        message = await stands(fake, asked)
        assert small_print(message).endswith("interrupted by a restart: press Continue")
        assert await running.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_it_loads_ends_it_quietly(
    environment: dict[str, str], fake: FakeDiscord, number: signal.Signals
) -> None:
    fake.fail("GET /users/@me", delay_s=30)  # however fast it loads, it is not connected yet
    async with starting(environment) as running:
        errors = await anext(running.stderr)  # the first line of Alembic's
        running.send_signal(number)
        errors += await running.stderr.read()
        assert await running.wait() == 0
        assert b"Traceback" not in errors


async def test_a_signal_while_discord_holds_up_the_login_ends_it_quietly(
    environment: dict[str, str], fake: FakeDiscord
) -> None:
    fault = fake.fail("GET /users/@me", delay_s=30)
    async with starting(environment) as running:
        await held(fault)
        running.send_signal(signal.SIGTERM)
        errors = await running.stderr.read()
        assert await running.wait() == 0
        assert b"cannot reach Discord" not in errors
        assert b"Traceback" not in errors
