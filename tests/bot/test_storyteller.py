"""What becomes of stories when something fails, or the bot leaves, in their last moments."""

import asyncio
from typing import NoReturn

import pytest

from bot.client import Fablewright
from bot.story import RUNNING
from bot.storyteller import FINISH_S
from core.errors import StoreError
from tests.bot.watching import RunningBot, all_stands, held, pages, small_print, stands, stopped, told, words
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel, Person


async def broken(*_: object) -> NoReturn:
    raise RuntimeError("broken for the test")


async def away(*_: object, **__: object) -> NoReturn:
    raise StoreError("away for the test")


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


async def test_a_story_that_ends_while_the_store_is_away_is_kept_when_it_is_back(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_bot(bot__pace=20) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=60)
        await fake.until(lambda: asked.original and len(asked.original.edited_at) >= 2)
        with monkeypatch.context() as patched:
            patched.setattr(bot.store.stories, "save", away)
            message = await stands(fake, asked)
            whole = words(message)
            answer = await told(fake, await fake.press(ada, message, "Continue"))
            assert answer == "This story is still being written, shown or kept. Please try again in a minute."
        await stopped(bot)
        await fake.press(ada, message, "Continue")
        await fake.until(lambda: "Stop" in message.buttons)
        assert words(await stands(fake, asked)).startswith(whole)


async def test_a_story_is_deleted_with_its_message_when_the_store_is_back(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_bot(bot__pace=20) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: asked.original and len(asked.original.edited_at) >= 2)
        with monkeypatch.context() as patched:
            patched.setattr(bot.store.stories, "delete", away)
            await fake.delete(asked.reply)
            await fake.until(lambda: 404 in fake.statuses())
            await asyncio.sleep(0.5)
        await stopped(bot)
        assert await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id)) == []


async def test_a_story_of_which_an_earlier_message_was_deleted_moves_into_the_others(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.splitting.PAGE_CHARS", 300)  # so that a short story takes several messages
    await fake.slash(ada, channel, "write", prompt="Once upon a time", length=300, seed=3)
    first, second, *_ = await all_stands(fake, channel)
    await stopped(bot)
    await fake.delete(first)
    await fake.press(ada, pages(fake, channel)[-1], "Undo")
    await fake.until(lambda: words(second) == "Once upon a time")
    await fake.until(lambda: pages(fake, channel) == [second])
    await fake.press(ada, second, "Continue")
    await fake.until(lambda: "Stop" in pages(fake, channel)[-1].buttons)


async def test_stories_of_another_application_are_not_taken_for_lost(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=20) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: asked.original and len(asked.original.edited_at) >= 2)
        (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id))
        telling = bot.storyteller._running.pop(story.id)  # as it is to a bot that did not begin it
        lost = await bot.storyteller.stories.load(story.id)
        lost.place.application_id += 1
        await bot.storyteller.stories.save(lost)
        await bot.storyteller.recover()
        assert (await bot.storyteller.stories.load(story.id)).reason == RUNNING
        lost.place.application_id -= 1
        await bot.storyteller.stories.save(lost)
        await bot.storyteller.recover()
        assert (await bot.storyteller.stories.load(story.id)).reason != RUNNING
        bot.storyteller._running[story.id] = telling


async def test_a_story_cannot_be_gone_on_with_while_its_undo_is_on_its_way(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "write", prompt="Once", length=5)
    message = await stands(fake, asked)
    await stopped(bot)
    go_on = message.buttons["Continue"]["custom_id"]
    fault = fake.fail("PATCH .*/messages/", delay_s=FINISH_S + 1)
    await fake.press(ada, message, "Undo")
    await held(fault)
    assert "Please try again" in await told(fake, await fake.press_id(ada, message, go_on))
    await fake.until(lambda: words(message) == "Once")


async def test_an_undo_that_discord_does_not_show_is_told_to_be_done(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "write", prompt="Once", length=5)
    message = await stands(fake, asked)
    await stopped(bot)
    fake.fail("PATCH .*/messages/", status=400)
    answer = await told(fake, await fake.press(ada, message, "Undo"))
    assert answer.startswith("It is undone, but Discord does not show so yet.")


async def test_stop_puts_right_a_story_that_nobody_is_writing(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        (story_id,) = bot.storyteller._running
        buttons = asked.reply.components
        await fake.press(ada, asked.reply, "Stop")
        await stands(fake, asked)
        await stopped(bot)
        story = await bot.storyteller.stories.load(story_id)
        story.reason = RUNNING  # as after a kill
        await bot.storyteller.stories.save(story)
        asked.reply.components = buttons
        await fake.press(ada, asked.reply, "Stop")
        await fake.until(lambda: "interrupted by a restart" in small_print(asked.reply))


async def test_deleting_ones_data_reaches_a_story_that_is_about_to_begin(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10) as bot:
        question = await fake.slash(ada, channel, "my-data delete")
        await told(fake, question)
        fault = fake.fail("POST .*/callback", delay_s=1)
        await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await held(fault)
        await fake.press(ada, question.reply, "Delete it all")
        await fake.until(lambda: question.reply.content.startswith("Everything that was kept of you is deleted"))
        await stopped(bot)
        assert await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id)) == []


async def test_a_story_that_discord_holds_up_is_kept_before_the_bot_has_left_and_says_so_later(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=20, bot__restart_grace_s=0.1) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        fault = fake.fail("PATCH .*/messages/", delay_s=5)
        await held(fault)
        await bot.storyteller.close()
        assert not bot.storyteller._running
    async with running_bot():
        message = await stands(fake, asked)
        assert small_print(message).endswith("interrupted by a restart: press Continue")


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
