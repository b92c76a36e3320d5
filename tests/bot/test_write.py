"""`/write` from the command to the finished story."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from bot.client import Fablewright
from tests.bot.watching import RunningBot, all_stands, small_print, stands, told, words
from tests.fakes.discord import FakeDiscord, RefusedError
from tests.fakes.discord_world import EPHEMERAL, MANAGE_GUILD, VIEW_CHANNEL, Channel, Person
from tests.tiny import TEXT

LONG = TEXT * 3 + "Once upon a time"  # two messages and a bit


async def test_a_story_follows_its_prompt(fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel) -> None:
    asked = await fake.slash(ada, channel, "write", prompt="Once upon a time", length=20, seed=7)
    message = await stands(fake, asked)
    assert asked.response == {"type": 5}
    assert message.content.startswith("**Once upon a time**")
    assert len(words(message)) > len("Once upon a time")
    assert small_print(message).startswith("seed 7 · 20 tokens · ")
    assert list(message.buttons) == ["Continue", "Retry", "Undo", "Settings"]


async def test_the_same_seed_gives_the_command_lines_text(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, config_file: Path
) -> None:
    asked = await fake.slash(ada, channel, "write", prompt="Once upon a time", length=500, seed=7, temperature=1.2)
    await stands(fake, asked)
    command = ["-m", "core", "Once upon a time", "--json", "--max-tokens", "500"]
    command += ["--seed", "7", "--temperature", "1.2", "--config", str(config_file)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    events = [json.loads(line) for line in output.decode().splitlines()]
    completion = "".join(event["text"] for event in events if event["type"] == "text")
    shown = "".join(words(message) for message in asked.messages)
    assert "".join(shown.split()) == "".join(("Once upon a time" + completion).split())
    (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id))
    assert (await bot.storyteller.stories.load(story.id)).written == completion


async def test_a_long_story_goes_over_several_messages(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    await fake.slash(ada, channel, "write", prompt=LONG, length=300)
    messages = await all_stands(fake, channel)
    (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id))
    text = (await bot.storyteller.stories.load(story.id)).text
    assert len(messages) > 2
    assert [bool(message.buttons) for message in messages] == [False] * (len(messages) - 1) + [True]
    shown = "".join(words(message) for message in messages)
    assert "".join(shown.split()) == "".join(text.split())  # Discord trims the spaces at a message's ends
    assert max(len(message.content) for message in messages) <= 2000
    assert 400 not in fake.statuses()


async def test_a_private_story_is_for_one_persons_eyes(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "write", prompt=LONG, length=300, private=True)
    await stands(fake, asked)
    assert asked.response == {"type": 5, "data": {"flags": EPHEMERAL}}
    assert len(asked.messages) > 2
    assert all(message.is_ephemeral for message in asked.messages)


async def test_nothing_that_is_sent_can_ping(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    prompt = "@everyone <@1> <@&2> **bold** ||hidden|| https://example.com # heading"
    asked = await fake.slash(ada, channel, "write", prompt=prompt, length=20)
    message = await stands(fake, asked)
    assert words(message).startswith(prompt)
    assert not any(mention in message.content for mention in ("@everyone", "<@1>", "<@&2>", "https://", "||"))
    for command in ("settings show", "privacy", "about", "my-data export"):
        await told(fake, await fake.slash(ada, channel, command))
    bodies = fake.outgoing_messages()
    assert len(bodies) >= 5
    assert all(body["allowed_mentions"] == {"parse": []} for body in bodies)


async def test_the_log_has_the_story_under_an_opaque_key_and_without_its_text(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=20, seed=5))
    (row,) = await bot.store.log.rows()
    assert (row.source, row.seed, row.completion_tokens, row.reason) == ("discord", 5, 20, "length")
    assert row.user_key == bot.store.opaque.key("user", ada.id)
    assert row.guild_key == bot.store.opaque.key("guild", channel.guild.id if channel.guild else 0)
    assert str(ada.id) not in (row.user_key or "")
    assert (row.prompt, row.completion) == (None, None)


async def test_the_log_has_the_text_where_the_server_allows_it(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    await told(fake, await fake.slash(fake.moderator(), channel, "server-settings logging", keep=True))
    asked = await fake.slash(ada, channel, "write", prompt="Once", length=20)
    await stands(fake, asked)
    (row,) = await bot.store.log.rows()
    assert row.prompt == "Once"
    assert row.completion
    assert words(asked.reply).split() == (row.prompt + row.completion).split()


async def test_it_works_in_direct_messages(fake: FakeDiscord, bot: Fablewright, ada: Person) -> None:
    asked = await fake.slash(ada, fake.dm(ada), "write", prompt="Once", length=10)
    await stands(fake, asked)
    (row,) = await bot.store.log.rows()
    assert row.guild_key is None


async def test_it_works_where_people_brought_it_themselves(fake: FakeDiscord, bot: Fablewright, ada: Person) -> None:
    elsewhere = fake.channel(fake.guild("Elsewhere", has_bot=False), bot_permissions=0)
    asked = await fake.slash(ada, elsewhere, "write", prompt="Once", length=10)
    await stands(fake, asked)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prompt": "x" * 6000}, "The prompt must have at most 4,000 characters, got 6,000. Shorten it."),
        ({"prompt": "   \n "}, "There are no words to write on from. Give me the first words of a story."),
        ({"prompt": "Once", "length": 5000}, "Length must be at most 2000 here, got 5000. Choose a smaller one."),
        ({"prompt": "Once", "length": 0}, "Length must be a whole number of at least 1, got 0."),
        ({"prompt": "Once", "temperature": 9.0}, "Temperature must be in [0, 2], got 9.0."),
        ({"prompt": "Once", "temperature": -1.0}, "Temperature must be in [0, 2], got -1.0."),
        ({"prompt": "Once", "top_p": 0.0}, "Top_p must be in (0, 1], got 0.0."),
        ({"prompt": "Once", "seed": "abc"}, "Seed must be a whole number in [0, 9007199254740991], got 'abc'."),
    ],
)
async def test_bad_input_gets_a_plain_sentence_for_its_author_alone(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, options: dict[str, object], problem: str
) -> None:
    asked = await fake.slash(ada, channel, "write", checked=False, **options)
    assert await told(fake, asked) == problem


async def test_discord_itself_holds_people_to_the_ranges(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    for options in ({"prompt": "x" * 4001}, {"temperature": 2.1}, {"length": 2001}, {"seed": -1}, {"top_p": 1.1}):
        with pytest.raises(RefusedError):
            await fake.slash(ada, channel, "write", **({"prompt": "Once"} | options))


async def test_a_channel_the_bot_may_not_write_in_is_named_with_what_to_do(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    channel.bot_permissions = VIEW_CHANNEL
    answer = await told(fake, await fake.slash(ada, channel, "write", prompt="Once"))
    assert answer.startswith("I am not allowed to write in this channel. Ask a moderator")
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5, private=True))


async def test_anything_unexpected_gets_a_reference(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    del bot.storyteller._usage  # as a mistake of our own would
    answer = await told(fake, await fake.slash(ada, channel, "write", prompt="Once"))
    assert "Something went wrong on my side" in answer
    assert "Traceback" not in answer
    reference = answer.rpartition(" ")[2]
    assert any(reference in record.getMessage() and record.exc_info for record in caplog.records)


async def test_a_message_of_ones_own_can_be_continued(
    fake: FakeDiscord, bot: Fablewright, ada: Person, eve: Person, channel: Channel
) -> None:
    message = fake.say(ada, channel, "The *fox* said")
    asked = await fake.use_on_message(ada, message, "Continue this")
    assert words(await stands(fake, asked)).startswith("The *fox* said")
    assert "only your own messages" in await told(fake, await fake.use_on_message(eve, message, "Continue this"))


async def test_a_story_of_somebody_else_can_be_continued_as_ones_own(
    fake: FakeDiscord, bot: Fablewright, ada: Person, eve: Person, channel: Channel
) -> None:
    first = await stands(fake, await fake.slash(ada, channel, "write", prompt="The sea", length=10))
    asked = await fake.use_on_message(eve, first, "Continue this")
    second = await stands(fake, asked)
    assert words(second).startswith(words(first).strip())
    await fake.press(eve, second, "Undo")
    await fake.until(lambda: words(second).strip() == words(first).strip())


async def test_an_earlier_message_of_a_story_can_be_continued(
    fake: FakeDiscord, bot: Fablewright, ada: Person, eve: Person, channel: Channel
) -> None:
    await fake.slash(ada, channel, "write", prompt="A *star* \\ and\n-# a dash. " + LONG, length=1)
    first, *_ = await all_stands(fake, channel)
    assert not first.buttons
    await stands(fake, await fake.use_on_message(eve, first, "Continue this"))
    (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", eve.id))
    assert (await bot.storyteller.stories.load(story.id)).prompt == words(first)
    assert words(first).startswith("A *star* \\ and\n-# a dash. Once upon")


@pytest.mark.parametrize("end", ["", " a"])
async def test_the_end_of_a_long_story_without_spaces_is_shown(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, end: str
) -> None:
    first = await stands(fake, await fake.slash(ada, channel, "write", prompt="好" * 1500 + end, length=1))
    asked = await fake.use_on_message(ada, first, "Continue this")
    await stands(fake, asked)
    assert 380 < words(asked.messages[0]).count("好") < 420  # what is written may go on in further messages


async def test_the_pictures_of_a_message_are_no_words(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    asked = await fake.use_on_message(ada, fake.say(ada, channel, ""), "Continue this")
    assert "no words" in await told(fake, asked)


async def test_every_command_works_wherever_it_makes_sense(
    fake: FakeDiscord, bot: Fablewright, channel: Channel
) -> None:
    for name, command in fake.commands.items():
        is_for_servers = name == "server-settings"
        assert command["integration_types"] == ([0] if is_for_servers else [0, 1]), name
        assert command["contexts"] == ([0] if is_for_servers else [0, 1, 2]), name
        assert command["default_member_permissions"] == (MANAGE_GUILD if is_for_servers else None), name


async def test_a_full_queue_is_told_in_private(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(engine__slots=1, engine__queue=1, bot__pace=5):
        for _ in range(2):
            await fake.slash(ada, channel, "write", prompt="Once", length=100)
        await fake.until(lambda: len(fake.outgoing_messages()) >= 2)
        answer = await told(fake, await fake.slash(ada, channel, "write", prompt="Once"))
        assert "try again" in answer
