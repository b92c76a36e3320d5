"""How tests wait for and read what the bot shows."""

import asyncio
import contextlib
from collections.abc import Callable

from bot.client import Fablewright
from bot.escaping import unescape
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_limits import Fault
from tests.fakes.discord_world import Channel, Interaction, Message

RunningBot = Callable[..., contextlib.AbstractAsyncContextManager[Fablewright]]


async def stands(fake: FakeDiscord, asked: Interaction, *, timeout_s: float = 60.0) -> Message:
    """Wait until a story stands, its buttons under its last message, and return that."""
    await fake.until(lambda: asked.messages and "Continue" in asked.messages[-1].buttons, timeout_s=timeout_s)
    return asked.messages[-1]


def pages(fake: FakeDiscord, channel: Channel) -> list[Message]:
    """Return the messages of the bot that stand in a channel for everybody, oldest first."""
    mine = [message for message in fake.messages.values() if message.channel is channel and message.author.is_bot]
    return [message for message in mine if not message.is_deleted and not message.is_ephemeral]


async def all_stands(fake: FakeDiscord, channel: Channel) -> list[Message]:
    """Wait until the only story of a channel stands, and return its messages."""
    await fake.until(lambda: any("Continue" in page.buttons for page in pages(fake, channel)))
    return pages(fake, channel)


async def stopped(bot: Fablewright) -> None:
    """Wait until the bot writes nothing any more."""
    tasks = {telling.task for telling in bot.storyteller._running.values() if telling.task}
    if tasks:
        await asyncio.wait(tasks)


async def held(fault: Fault) -> None:
    """Wait until Discord holds up a request, as `fault` asks."""
    while fault.times:  # noqa: ASYNC110 — the fake tells of a request when it is answered
        await asyncio.sleep(0.01)


async def told(fake: FakeDiscord, asked: Interaction) -> str:
    """Wait for the answer that only the person who asked sees, and return it."""

    def answers() -> list[Message]:
        return [message for message in asked.messages if message.is_ephemeral and not message.is_loading]

    await fake.until(answers)
    return answers()[-1].content


def words(message: Message) -> str:
    """Return a message without its small print, its marks and its bold."""
    body = message.content.rpartition("\n-# ")[0] if "\n-# " in message.content else message.content
    return unescape(body.replace("**", ""))


def small_print(message: Message) -> str:
    return message.content.rpartition("\n-# ")[2]
