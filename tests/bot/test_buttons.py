"""Stop, Continue, Retry, Undo and Settings."""

import pytest

from bot.client import Fablewright
from tests.bot.watching import RunningBot, pages, small_print, stands, stopped, told, words
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel, Interaction, Message, Person
from tests.tiny import TEXT


@pytest.fixture
async def asked(fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel) -> Interaction:
    asked = await fake.slash(ada, channel, "write", prompt="Once upon a time", length=15, seed=7)
    await stands(fake, asked)
    return asked


async def changed(fake: FakeDiscord, message: Message, before: str) -> None:
    """Wait until a message says something else and its story stands."""
    await fake.until(lambda: message.content != before and "Continue" in message.buttons)


async def test_continue_writes_on_below_what_stands(fake: FakeDiscord, ada: Person, asked: Interaction) -> None:
    message, before = asked.reply, asked.reply.content
    pressed = await fake.press(ada, message, "Continue")
    await changed(fake, message, before)
    first = before.rpartition("\n-# ")[0]
    assert pressed.response == {"type": 6}
    assert message.content.startswith(first)
    assert len(message.content) > len(before)
    assert not small_print(message).startswith("seed 7 ")


async def test_a_continuation_that_overflows_goes_on_in_a_new_message(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "write", prompt=TEXT + TEXT[:540], length=1)
    first = await stands(fake, asked)
    form = await fake.press(ada, first, "Settings")
    await fake.until(lambda: form.response)
    await told(fake, await fake.submit(form, max_tokens="200", seed="3"))
    await fake.press(ada, first, "Continue")
    await fake.until(lambda: first is not pages(fake, channel)[-1] and "Continue" in pages(fake, channel)[-1].buttons)
    assert not first.buttons
    await fake.press(ada, pages(fake, channel)[-1], "Undo")
    await fake.until(lambda: pages(fake, channel) == [first])
    assert "Continue" in first.buttons


async def test_retry_writes_the_last_continuation_anew(fake: FakeDiscord, ada: Person, asked: Interaction) -> None:
    message, before = asked.reply, asked.reply.content
    await fake.press(ada, message, "Retry")
    await changed(fake, message, before)
    assert message.content.startswith("**Once upon a time**")
    assert not small_print(message).startswith("seed 7 ")


async def test_undo_takes_steps_back_as_far_as_the_prompt(fake: FakeDiscord, ada: Person, asked: Interaction) -> None:
    message, first = asked.reply, asked.reply.content
    await fake.press(ada, message, "Continue")
    await changed(fake, message, first)
    await fake.press(ada, message, "Undo")
    await fake.until(lambda: message.content == first)
    await fake.press(ada, message, "Undo")
    await fake.until(lambda: words(message) == "Once upon a time")
    assert list(message.buttons) == ["Continue", "Settings"]
    stale = next(item for row in message.components for item in row["components"] if item["label"] == "Undo")
    assert "nothing to undo" in await told(fake, await fake.press_id(ada, message, stale["custom_id"]))


async def test_nobody_else_may_press(fake: FakeDiscord, eve: Person, asked: Interaction) -> None:
    before = asked.reply.content
    for label in ("Continue", "Retry", "Undo", "Settings"):
        answer = await told(fake, await fake.press(eve, asked.reply, label))
        assert answer == "Only the author of a story can use its buttons. Begin your own with /write."
    assert asked.reply.content == before


async def test_the_form_changes_what_the_story_gets_next(fake: FakeDiscord, ada: Person, asked: Interaction) -> None:
    form = await fake.press(ada, asked.reply, "Settings")
    await fake.until(lambda: form.response)
    assert [label["label"] for label in form.modal["components"]][:2] == ["Length", "Temperature"]
    answer = await told(fake, await fake.submit(form, max_tokens="4", seed="99", temperature="0,5"))
    assert answer == "Saved. The next Continue or Retry of this story uses these settings."
    before = asked.reply.content
    await fake.press(ada, asked.reply, "Continue")
    await changed(fake, asked.reply, before)
    assert small_print(asked.reply).startswith("seed 99 · 4 tokens")
    again = await fake.press(ada, asked.reply, "Settings")
    await fake.until(lambda: again.response)
    values = {label["component"]["custom_id"]: label["component"].get("value") for label in again.modal["components"]}
    assert values["temperature"] == "0.5"
    assert values["seed"] is None


async def test_the_form_shows_numbers_as_they_were_typed(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    asked = await fake.slash(ada, channel, "write", prompt="Once", length=5, temperature=0.003, top_p=0.8)
    form = await fake.press(ada, await stands(fake, asked), "Settings")
    await fake.until(lambda: form.response)
    values = {label["component"]["custom_id"]: label["component"].get("value") for label in form.modal["components"]}
    assert (values["max_tokens"], values["temperature"], values["top_p"]) == ("5", "0.003", "0.8")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"seed": "tomorrow"}, "Seed must be a whole number, got “tomorrow”. Press Settings and try again."),
        ({"temperature": "hot"}, "Temperature must be a number, got “hot”. Press Settings and try again."),
        ({"temperature": "nan"}, "Temperature must be in [0, 2], got nan."),
        ({"max_tokens": "99999"}, "Length must be at most 2000 here, got 99999. Choose a smaller one."),
    ],
)
async def test_a_form_filled_in_wrongly_is_explained(
    fake: FakeDiscord, ada: Person, asked: Interaction, values: dict[str, str], problem: str
) -> None:
    form = await fake.press(ada, asked.reply, "Settings")
    await fake.until(lambda: form.response)
    assert await told(fake, await fake.submit(form, **values)) == problem


async def test_stop_ends_a_story_where_it_is(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, eve: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: asked.original and "Stop" in asked.original.buttons)
        assert "Only the author" in await told(fake, await fake.press(eve, asked.reply, "Stop"))
        await fake.press(ada, asked.reply, "Stop")
        message = await stands(fake, asked)
        assert small_print(message).endswith("stopped")
        (row,) = await bot.store.log.rows()
        assert row.reason == "cancelled"
        assert 0 < row.completion_tokens < 500


async def test_a_story_being_written_is_not_begun_twice(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=4) as bot:
        asked = await fake.slash(ada, channel, "write", prompt="Once", length=10)
        message = await stands(fake, asked)
        custom_id = message.buttons["Continue"]["custom_id"]
        presses = [await fake.press_id(ada, message, custom_id) for _ in range(2)]
        await fake.until(lambda: all(press.response for press in presses))
        answers = [press.response for press in presses if press.response]
        assert sorted(answer["type"] for answer in answers) == [4, 6]
        assert "still being written" in next(answer["data"]["content"] for answer in answers if "data" in answer)
        await fake.until(lambda: "Stop" in message.buttons)
        await stands(fake, asked)
        assert len(await bot.store.log.rows()) == 2


async def test_the_buttons_of_a_story_that_was_deleted_say_so(
    fake: FakeDiscord, bot: Fablewright, ada: Person, asked: Interaction
) -> None:
    (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id))
    await bot.store.stories.delete(story.id)
    for label in ("Continue", "Retry", "Undo", "Settings"):
        answer = await told(fake, await fake.press(ada, asked.reply, label))
        assert answer == "This story is no longer kept. Start a new one with /write."


@pytest.mark.usefixtures("impatient")
async def test_a_story_as_long_as_one_can_be_says_how_to_go_on(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(limits__max_prompt_bytes=20):
        message = await stands(fake, await fake.slash(ada, channel, "write", prompt="Once upon a time", length=9))
        answer = await told(fake, await fake.press(ada, message, "Continue"))
        assert answer.startswith("This story is as long as one can be here. To go on,")


@pytest.mark.usefixtures("impatient")
async def test_buttons_work_after_a_restart(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot():
        asked = await fake.slash(ada, channel, "write", prompt="Once upon a time", length=15)
        message = await stands(fake, asked)
        form = await fake.press(ada, message, "Settings")
        await fake.until(lambda: form.response)
    before = message.content
    async with running_bot():
        assert "Saved" in await told(fake, await fake.submit(form, max_tokens="3"))
        await fake.press(ada, message, "Continue")
        await changed(fake, message, before)
        assert " · 3 tokens" in small_print(message)


async def test_a_story_longer_than_the_messages_of_one_press_goes_on_with_the_next(
    fake: FakeDiscord, bot: Fablewright, ada: Person
) -> None:
    elsewhere = fake.channel(fake.guild("Elsewhere", has_bot=False), bot_permissions=0)
    prompt = "*" * 4000  # shown with as many backslashes
    asked = await fake.slash(ada, elsewhere, "write", prompt=prompt, length=2000)
    await fake.until(lambda: 400 in fake.statuses())
    await stopped(bot)
    last = asked.followups[-1]  # what it says of the story depends on how far the story was when the sixth was refused
    pressed = await fake.press(ada, last, "Stop" if "Stop" in last.buttons else "Continue")
    await fake.until(lambda: pressed.followups and "Continue" in pressed.followups[-1].buttons)
    (story,) = await bot.store.stories.of_user(bot.store.opaque.key("user", ada.id))
    text = (await bot.storyteller.stories.load(story.id)).text
    shown = "".join(words(message) for message in [*asked.messages, *pressed.followups])
    assert "".join(shown.split()) == "".join(text.split())


async def test_what_cannot_be_reached_any_more_is_left_and_the_story_goes_on(
    fake: FakeDiscord, bot: Fablewright, ada: Person
) -> None:
    """A story of several messages, where people brought the bot themselves: the old ones have no token any more."""
    elsewhere = fake.channel(fake.guild("Elsewhere", has_bot=False), bot_permissions=0)
    asked = await fake.slash(ada, elsewhere, "write", prompt=TEXT, length=20, seed=1)
    pressed = await fake.press(ada, await stands(fake, asked), "Continue")
    await fake.until(lambda: pressed.original and "Continue" in pressed.messages[-1].buttons)
    last = pressed.messages[-1]
    await fake.press(ada, last, "Retry")
    await fake.until(lambda: "seed 1 " not in last.content and "Continue" in last.buttons)
    assert 500 not in fake.statuses()
