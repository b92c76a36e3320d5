"""What becomes of stories when something fails, or the bot leaves, in their last moments."""

import asyncio
from typing import NoReturn

import pytest

from bot.client import Fablewright
from tests.bot.watching import RunningBot, held, small_print, stands, stopped, told
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel, Person


async def broken(*_: object) -> NoReturn:
    raise RuntimeError("broken for the test")


async def test_a_story_whose_copied_share_cannot_be_told_stands_and_goes_on(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    bot.storyteller._copied_share = broken
    asked = await fake.slash(ada, channel, "write", prompt="Once", length=5)
    message = await stands(fake, asked, timeout_s=20)
    before = message.content
    await fake.press(ada, message, "Continue")
    await fake.until(lambda: message.content != before and "Continue" in message.buttons, timeout_s=20)
    assert "copied" not in small_print(message)
    assert "broken for the test" in caplog.text


async def test_a_story_whose_last_save_breaks_is_not_taken_for_one_being_written(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5, seed=7))
    with monkeypatch.context() as patched:
        patched.setattr(bot.storyteller.stories, "save", broken)
        pressed = await fake.press(ada, message, "Continue")
        assert "Something went wrong" in await told(fake, pressed)
        await stopped(bot)
    await fake.press(ada, message, "Continue")
    await fake.until(lambda: "seed 7 " not in message.content and "Continue" in message.buttons, timeout_s=20)


async def test_a_story_that_discord_holds_up_is_kept_before_the_bot_has_left(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=20, bot__restart_grace_s=0.1) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        fault = fake.fail("PATCH .*/messages/", delay_s=5)
        await held(fault)
        await bot.storyteller.close()
        (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id))
        assert (await bot.storyteller.stories.load(story.id)).reason == "shutdown"
        assert not bot.storyteller._running


async def test_a_story_about_to_begin_when_the_bot_leaves_is_given_up_and_its_author_told(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot() as bot:
        fault = fake.fail("POST .*/callback", delay_s=1)
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await held(fault)
        await bot.close()
        assert "I am being restarted" in await told(fake, asked)
        assert await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id)) == []


async def test_what_puts_lost_stories_right_has_ended_before_the_rest_closes(
    bot: Fablewright, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovering = bot._recovering = asyncio.create_task(asyncio.sleep(60))
    close, had_ended = bot.storyteller.close, []

    async def watched_close() -> None:
        had_ended.append(recovering.done())
        await close()

    monkeypatch.setattr(bot.storyteller, "close", watched_close)
    await bot.close()
    assert had_ended == [True]
