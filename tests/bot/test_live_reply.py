"""A story is seen growing, whatever Discord does meanwhile."""

from itertools import pairwise
from pathlib import Path

import pytest

from bot.client import Fablewright
from tests.bot.watching import RunningBot, all_stands, small_print, stands, stopped, told, words
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import SEND_MESSAGES, VIEW_CHANNEL, Channel, Person
from tests.tiny import TEXT


async def full_text(bot: Fablewright, ada: Person) -> str:
    (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id))
    return (await bot.storyteller.stories.load(story.id)).text


async def test_it_grows_by_edits_a_second_apart_and_meets_no_429(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=60)
        await stands(fake, asked)
        edits = asked.reply.edited_at
        assert len(edits) >= 3
        assert min(late - early for early, late in pairwise(edits)) > 0.95
        shown = [words_of.split("\n-# ")[0] for words_of in asked.reply.history]
        assert all(late.startswith(early) for early, late in pairwise(shown))
        assert 429 not in fake.statuses()
        assert words(asked.reply).split() == (await full_text(bot, ada)).split()


async def test_while_it_waits_it_shows_its_place_in_the_queue(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, eve: Person, channel: Channel
) -> None:
    async with running_bot(engine__slots=1, bot__pace=20):
        first = await fake.slash(ada, channel, "write", prompt="Once", length=60)
        await fake.until(lambda: first.original and "Stop" in first.original.buttons)
        second = await fake.slash(eve, channel, "write", prompt="Once", length=5)
        await fake.until(lambda: second.original and "number 1 in the queue, about" in second.original.content)
        await stands(fake, second)


@pytest.mark.parametrize("status", [500, 503])
async def test_errors_of_discord_lose_no_text(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel, status: int
) -> None:
    async with running_bot(bot__pace=20) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=40)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        fake.fail("PATCH .*/messages/", status=status, times=2)
        message = await stands(fake, asked)
        assert status in fake.statuses()
        assert words(message).split() == (await full_text(bot, ada)).split()


async def test_an_answer_that_gets_lost_doubles_nothing(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot() as bot:
        fake.fail("POST .*/callback", status=502, after=True)
        fake.fail("PATCH .*/messages/", status=502, after=True)
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=20)
        message = await stands(fake, asked)
        assert words(message).split() == (await full_text(bot, ada)).split()
        assert len(asked.messages) == 1


async def test_a_new_message_whose_answer_gets_lost_is_not_doubled(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=20) as bot:
        fake.fail("POST /channels/", status=502, after=True, times=5)  # as often as discord.py asks by itself
        await fake.slash(ada, channel, "write", prompt=TEXT + TEXT[:480], length=200)
        messages = await all_stands(fake, channel)
        assert len(messages) == 2
        shown = "".join(words(message) for message in messages)
        assert "".join(shown.split()) == "".join((await full_text(bot, ada)).split())


async def test_a_thread_that_is_archived_meanwhile_stays_so(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=15) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500, age_s=15 * 60 - 22)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        channel.is_archived = True
        assert "Your story is kept" in await told(fake, asked)
        await stopped(bot)
        assert len(asked.messages) == 2
        assert not fake.requests("POST", "/channels/")


async def test_where_only_the_commands_are_installed_it_pauses_in_time(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    assert channel.guild is not None
    async with running_bot(bot__pace=10):
        await fake.gateway.dispatch("GUILD_DELETE", {"id": str(channel.guild.id)}, shard_of=channel.guild.id)
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500, age_s=15 * 60 - 43)
        assert "15 minutes at a time" in small_print(await stands(fake, asked))


async def test_of_two_bots_that_do_not_know_of_each_other_one_writes_and_the_other_says_so(
    fake: FakeDiscord,
    running_bot: RunningBot,
    ada: Person,
    channel: Channel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_bot(bot__pace=20):
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/another/test.sqlite3")
        async with running_bot(bot__pace=20):
            await fake.until(lambda: len(fake.gateway.sessions) == 2)
            asked = await fake.slash(ada, channel, "write", prompt="Once", length=40)
            message = await stands(fake, asked)
            shown = [words_of.split("\n-# ")[0] for words_of in message.history]
            assert all(late.startswith(early) for early, late in pairwise(shown))
            assert len(asked.messages) == 1
    assert "does a second bot run with this DISCORD_TOKEN?" in caplog.text


@pytest.mark.parametrize("via", [True, False])
async def test_a_429_is_waited_for(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel, via: bool
) -> None:
    async with running_bot(bot__pace=20) as bot:
        fake.fail("PATCH .*/messages/", status=429, times=2, via=via, retry_after=0.5)
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=40)
        message = await stands(fake, asked)
        assert 429 in fake.statuses()
        assert words(message).split() == (await full_text(bot, ada)).split()


async def test_a_slow_discord_delays_and_does_not_tear(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=30) as bot:
        fake.fail("PATCH .*/messages/", times=2, delay_s=2.5)
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=60)
        message = await stands(fake, asked)
        assert words(message).split() == (await full_text(bot, ada)).split()


async def test_deleting_the_message_stops_the_story(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        await fake.delete(asked.reply)
        await fake.until(lambda: 404 in fake.statuses())
        await stopped(bot)
        (row,) = await bot.store.log.rows()
        assert row.reason == "cancelled"
        assert row.completion_tokens < 500
        assert await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id)) == []


async def test_after_15_minutes_it_goes_on_by_ordinary_edits(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=15) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=120, age_s=15 * 60 - 25)
        message = await stands(fake, asked)
        assert fake.requests("PATCH", f"/channels/{channel.id}/messages/{message.id}")
        assert fake.requests("PATCH", "/webhooks/")
        assert words(message).split() == (await full_text(bot, ada)).split()
        assert fake.statuses() == {200}


async def test_a_token_that_ends_early_is_handed_over_too(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=15) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=60)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        asked.id -= (16 * 60 * 1000) << 22  # for Discord it is 16 minutes old now
        message = await stands(fake, asked)
        assert 401 in fake.statuses()
        assert words(message).split() == (await full_text(bot, ada)).split()


async def test_where_only_the_token_reaches_it_pauses_in_time_and_offers_continue(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10):
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500, private=True, age_s=15 * 60 - 43)
        message = await stands(fake, asked)
        assert small_print(message).endswith("Discord lets me write for 15 minutes at a time: press Continue")
        before = words(message)
        pressed = await fake.press(ada, message, "Continue")
        await fake.until(lambda: "Stop" in message.buttons)
        await fake.press(ada, message, "Stop")
        await fake.until(lambda: "Continue" in message.buttons)
        assert pressed.response == {"type": 6}
        assert words(message).startswith(before)


async def test_a_story_whose_channel_was_lost_after_the_token_goes_on_when_it_is_back(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=15) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500, age_s=15 * 60 - 22)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        channel.bot_permissions = 0
        await fake.until(lambda: 403 in fake.statuses())
        await stopped(bot)
        assert len(await full_text(bot, ada)) > len("Once")
        assert "Your story is kept" in await told(fake, asked)
        channel.bot_permissions = VIEW_CHANNEL | SEND_MESSAGES
        message = asked.reply
        await fake.press(ada, message, "Stop")
        await fake.until(lambda: "Continue" in message.buttons)
        before, by_channel = words(message), len(fake.requests("PATCH", "/channels/"))
        await fake.press(ada, message, "Continue", age_s=15 * 60 - 22)
        await fake.until(lambda: len(fake.requests("PATCH", "/channels/")) > by_channel)
        await fake.press(ada, message, "Stop")
        await fake.until(lambda: "Continue" in message.buttons)
        assert words(message).startswith(before)
        assert len(words(message)) > len(before)


async def test_a_story_that_may_add_no_message_keeps_its_buttons(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=20) as bot:
        prompt = TEXT + TEXT[:480]  # a message less some words
        asked = await fake.slash(ada, channel, "write", prompt=prompt, length=300, age_s=15 * 60 - 22)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        channel.bot_permissions = VIEW_CHANNEL
        await fake.until(lambda: 403 in fake.statuses())
        await stopped(bot)
        pressed = await fake.press(ada, asked.reply, "Stop")  # its token may add one
        await fake.until(lambda: pressed.followups and "Continue" in pressed.followups[-1].buttons)
        assert not asked.reply.buttons
        shown = words(asked.reply) + words(pressed.followups[-1])
        assert "".join(shown.split()) == "".join((await full_text(bot, ada)).split())


async def test_a_gateway_drop_loses_no_story(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=15) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=40)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        await fake.gateway.drop()
        message = await stands(fake, asked)
        assert words(message).split() == (await full_text(bot, ada)).split()
        await told(fake, await fake.slash(ada, channel, "settings show"))
        assert fake.gateway.resumes
