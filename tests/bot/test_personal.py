"""One's own settings, one's own data, and what the bot says of itself."""

import json
import sqlite3
from pathlib import Path

from bot.client import Fablewright
from bot.commands.about import shortened
from core.engines import SHIPPED
from tests.bot.watching import RunningBot, small_print, stands, told
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel, Person


async def test_ones_own_defaults_are_set_shown_and_reset(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    assert "You have set nothing" in await told(fake, await fake.slash(ada, channel, "settings show"))
    await told(fake, await fake.slash(ada, channel, "settings set", length=7, temperature=0.5, pace=0.0))
    shown = await told(fake, await fake.slash(ada, channel, "settings show"))
    assert "- length: 7\n" in shown
    assert "- temperature: 0.5\n" in shown
    typed = await fake.autocomplete(ada, channel, "settings reset", "name", "len")
    await fake.until(lambda: typed.response)
    assert typed.choices == [{"name": "length", "value": "length"}]
    await told(fake, await fake.slash(ada, channel, "settings reset", name="length"))
    assert "length" not in await told(fake, await fake.slash(ada, channel, "settings show"))
    await told(fake, await fake.slash(ada, channel, "settings reset"))
    assert "You have set nothing" in await told(fake, await fake.slash(ada, channel, "settings show"))


async def test_settings_are_answered_in_time_while_another_process_writes(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel, tmp_path: Path
) -> None:
    form = await fake.press(ada, await stands(fake, await fake.slash(ada, channel, "write", prompt="Once")), "Settings")
    await fake.until(lambda: form.response)
    mo = fake.moderator()
    writer = sqlite3.connect(tmp_path / "data/test.sqlite3", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    asked = [
        await fake.slash(ada, channel, "settings set", length=7),
        await fake.slash(mo, channel, "server-settings limits", quota=5),
        await fake.submit(form, max_tokens="3"),
    ]
    await fake.until(lambda: all(one.response for one in asked))
    writer.close()
    assert [(await told(fake, one)).partition(" ")[0].rstrip(".") for one in asked] == ["Saved"] * 3


async def test_an_answer_is_given_where_that_of_discord_got_lost(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    fake.fail("POST .*/callback", status=502, after=True)
    assert "You have set nothing" in await told(fake, await fake.slash(ada, channel, "settings show"))


async def test_settings_set_with_nothing_or_nonsense_says_what_to_do(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    assert "Choose at least one" in await told(fake, await fake.slash(ada, channel, "settings set"))
    answer = await told(fake, await fake.slash(ada, channel, "settings set", checked=False, top_k=5000))
    assert answer == "Top_k must be a whole number in [0, 1000], got 5000."
    answer = await told(fake, await fake.slash(ada, channel, "settings reset", name="luck"))
    assert answer.startswith("“luck” is no setting. Choose one of length,")


async def test_ones_own_defaults_hold_in_every_server_and_in_direct_messages(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    await told(fake, await fake.slash(ada, fake.dm(ada), "settings set", length=6))
    message = await stands(fake, await fake.slash(ada, channel, "write", prompt="Once"))
    assert " · 6 tokens" in small_print(message)


async def test_export_holds_everything_that_is_kept(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once upon", length=6))
    await told(fake, await fake.slash(ada, channel, "settings set", length=6))
    asked = await fake.slash(ada, channel, "my-data export")
    await told(fake, asked)
    (content,) = asked.messages[-1].files.values()
    exported = json.loads(content)
    assert [len(exported[part]) for part in ("generations", "stories", "nodes", "settings")] == [1, 1, 2, 1]
    assert exported["nodes"][0]["text"] == "Once upon"
    assert str(ada.id) not in json.dumps(exported["generations"])


async def test_export_gives_nobody_the_token_to_write_in_the_bots_name(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10):
        running = await fake.slash(ada, channel, "write", prompt="Once", length=500)
        await fake.until(lambda: running.original and "Stop" in running.original.buttons)
        asked = await fake.slash(ada, channel, "my-data export")
        await told(fake, asked)
        (content,) = asked.messages[-1].files.values()
        assert running.token not in content.decode()
        assert str(running.reply.id) in content.decode()


async def test_delete_asks_first_and_then_leaves_nothing(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, eve: Person, channel: Channel
) -> None:
    async with running_bot(bot__pace=10) as bot:
        await stands(fake, await fake.slash(eve, channel, "write", prompt="Mine", length=5))
        running = await fake.slash(ada, channel, "write", prompt="Once", length=300)
        await fake.until(lambda: running.original and "Stop" in running.original.buttons)
        question = await fake.slash(ada, channel, "my-data delete")
        await told(fake, question)
        await fake.press(ada, question.reply, "Keep it")
        await fake.until(lambda: question.reply.content == "Nothing was deleted.")
        question = await fake.slash(ada, channel, "my-data delete")
        await told(fake, question)
        await fake.press(ada, question.reply, "Delete it all")
        await fake.until(lambda: question.reply.content.startswith("Everything that was kept of you is deleted"))
        exported = await bot.store.privacy.export(bot.store.opaque.key("user", ada.id))
        assert not any(exported[part] for part in ("generations", "stories", "nodes", "settings"))
        assert len(await bot.store.log.rows()) == 1


async def test_about_shows_the_models_card(fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel) -> None:
    answer = await told(fake, await fake.slash(ada, channel, "about"))
    assert "MIT licence" in answer
    assert "A model for tests, trained on a page of our own text." in answer


async def test_privacy_says_what_holds_here(fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel) -> None:
    assert "**not kept in the log**" in await told(fake, await fake.slash(ada, channel, "privacy"))
    await told(fake, await fake.slash(fake.moderator(), channel, "server-settings logging", keep=True))
    answer = await told(fake, await fake.slash(ada, channel, "privacy"))
    assert "**kept in the log too**" in answer
    assert "after 90 days" in answer


def test_a_card_too_long_for_a_message_keeps_its_limits() -> None:
    card = (SHIPPED / "fable" / "README.md").read_text()
    text = shortened(card, 1800)
    assert len(text) <= 1800
    assert "## Results" in text
    assert "no instructions, no present day" in text
    assert text.endswith("The whole card stands beside the model.")
    assert shortened("# small", 1800) == "# small"
