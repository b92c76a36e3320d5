"""What becomes of stories when something fails, or the bot leaves, in their last moments."""

from typing import NoReturn

import pytest

from bot.client import Fablewright
from tests.bot.watching import small_print, stands, stopped, told
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
