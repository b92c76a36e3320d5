"""What moderators decide holds for everybody in their server."""

import asyncio
import shutil

import pytest

from bot.client import Fablewright
from tests.bot.watching import RunningBot, small_print, stands, told
from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_rest import ACKNOWLEDGE_S
from tests.fakes.discord_world import CATEGORY, Channel, Person


@pytest.fixture
def mo(fake: FakeDiscord) -> Person:
    return fake.moderator("Mo")


async def test_only_moderators_may_change_them(
    fake: FakeDiscord, bot: Fablewright, ada: Person, channel: Channel
) -> None:
    answer = await told(fake, await fake.slash(ada, channel, "server-settings limits", quota=1))
    assert answer == "You need the permission Manage Server for this. Ask a moderator to do it."


async def test_a_closed_channel_sends_people_to_an_open_one(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    other = fake.channel(channel.guild, "open")
    await told(fake, await fake.slash(mo, channel, "server-settings channel", channel=other, allowed=True))
    answer = await told(fake, await fake.slash(ada, channel, "write", prompt="Once"))
    assert answer == f"Stories are not written in this channel. Go to <#{other.id}>."
    await stands(fake, await fake.slash(ada, other, "write", prompt="Once", length=5))
    await told(fake, await fake.slash(mo, channel, "server-settings channel", channel=other, allowed=False))
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))


async def test_a_category_is_no_channel_to_write_in(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    assert channel.guild is not None
    category = fake.channel(channel.guild, "stories", kind=CATEGORY)
    answer = await told(fake, await fake.slash(mo, channel, "server-settings channel", channel=category, allowed=True))
    assert answer == "A category is no channel: choose its channels one by one."
    guild_key = bot.store.opaque.key("guild", channel.guild.id)
    await bot.store.settings.set("guild", guild_key, channels=[category.id])
    taken_off = await fake.slash(mo, channel, "server-settings channel", channel=category, allowed=False)
    assert (await told(fake, taken_off)).startswith("Saved.")
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))


@pytest.mark.usefixtures("impatient")
async def test_a_role_can_be_asked_for(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, eve: Person, mo: Person, channel: Channel
) -> None:
    assert channel.guild is not None
    channel.guild.roles[4242] = "writers"
    ada.role_ids = (4242,)
    async with running_bot():
        await told(fake, await fake.slash(mo, channel, "server-settings role", role=4242, allowed=True))
        answer = await told(fake, await fake.slash(eve, channel, "write", prompt="Once"))
        assert answer.startswith("In this server only <@&4242> may write stories.")
        await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))


async def test_a_spent_quota_says_when_to_come_back(
    fake: FakeDiscord, bot: Fablewright, ada: Person, eve: Person, mo: Person, channel: Channel
) -> None:
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))
    await told(fake, await fake.slash(mo, channel, "server-settings limits", quota=2))
    message = await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))
    answer = await told(fake, await fake.press(ada, message, "Continue"))
    assert answer.startswith("You have written 2 times here today, and 2 a day are allowed.")
    await stands(fake, await fake.slash(eve, channel, "write", prompt="Once", length=5))


@pytest.mark.usefixtures("impatient")
async def test_the_quota_is_remembered_over_a_restart(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, mo: Person, channel: Channel
) -> None:
    async with running_bot():
        await told(fake, await fake.slash(mo, channel, "server-settings limits", quota=1))
        message = await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))
    async with running_bot():
        assert "1 a day are allowed" in await told(fake, await fake.press(ada, message, "Continue"))


@pytest.mark.usefixtures("impatient")
async def test_direct_messages_have_a_quota_of_their_own(
    fake: FakeDiscord, running_bot: RunningBot, ada: Person, channel: Channel
) -> None:
    async with running_bot(bot__daily_quota=1):
        await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))
        message = await stands(fake, await fake.slash(ada, fake.dm(ada), "write", prompt="Once", length=5))
        assert "times here today, and 1 a day are allowed" in await told(
            fake, await fake.press(ada, message, "Continue")
        )


@pytest.mark.usefixtures("impatient")
async def test_what_was_acknowledged_too_late_is_not_charged(
    fake: FakeDiscord,
    running_bot: RunningBot,
    ada: Person,
    channel: Channel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_bot(bot__daily_quota=1, bot__cooldown_s=600):
        fake.fail("POST .*/callback", delay_s=ACKNOWLEDGE_S + 0.5)
        await fake.slash(ada, channel, "write", prompt="Once", length=5)
        async with asyncio.timeout(60):
            while "answered too late" not in caplog.text:  # noqa: ASYNC110 — there is no event to wait for
                await asyncio.sleep(0.05)
        await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))


async def test_many_presses_at_one_instant_do_not_slip_past_the_quota(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    await told(fake, await fake.slash(mo, channel, "server-settings limits", quota=3))
    asked = [await fake.slash(ada, channel, "write", prompt="Once", length=5) for _ in range(8)]
    await fake.until(lambda: all(one.messages and not one.messages[-1].is_loading for one in asked))
    assert sum(not one.messages[-1].is_ephemeral for one in asked) == 3


async def test_a_cooldown_says_how_long(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    await told(fake, await fake.slash(mo, channel, "server-settings limits", cooldown=600.0))
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))
    answer = await told(fake, await fake.slash(ada, channel, "write", prompt="Once"))
    assert answer.startswith("Here you may write every 600 s. Wait ")


async def test_longest_bounds_what_is_asked_and_what_is_not(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    await told(fake, await fake.slash(mo, channel, "server-settings limits", longest=6))
    answer = await told(fake, await fake.slash(ada, channel, "write", prompt="Once", length=7))
    assert answer == "Length must be at most 6 here, got 7. Choose a smaller one."
    message = await stands(fake, await fake.slash(ada, channel, "write", prompt="Once"))
    assert " · 6 tokens" in small_print(message)


async def test_the_servers_defaults_lie_under_ones_own(
    fake: FakeDiscord, bot: Fablewright, ada: Person, eve: Person, mo: Person, channel: Channel
) -> None:
    await told(fake, await fake.slash(mo, channel, "server-settings defaults", length=4))
    await told(fake, await fake.slash(ada, channel, "settings set", length=9))
    assert " · 9 tokens" in small_print(await stands(fake, await fake.slash(ada, channel, "write", prompt="Once")))
    assert " · 4 tokens" in small_print(await stands(fake, await fake.slash(eve, channel, "write", prompt="Once")))


async def test_everybody_can_be_let_write_as_a_role(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    assert channel.guild is not None
    everyone = channel.guild.id  # as Discord has it
    await told(fake, await fake.slash(mo, channel, "server-settings role", role=everyone, allowed=True))
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))
    guild_key = bot.store.opaque.key("guild", everyone)
    assert str(everyone) not in str(await bot.store.settings.get("guild", guild_key))
    assert "who may write: @everyone" in await told(fake, await fake.slash(mo, channel, "server-settings show"))


async def test_what_an_empty_list_means_is_told(
    fake: FakeDiscord, bot: Fablewright, mo: Person, channel: Channel
) -> None:
    async def set_(allowed: bool) -> str:
        return await told(
            fake, await fake.slash(mo, channel, "server-settings channel", channel=channel, allowed=allowed)
        )

    assert (await set_(False)).startswith("No channel is chosen, so stories are written in every one.")
    await set_(True)
    assert (await set_(False)).startswith("Saved. With no channel chosen, stories are now written in every one.")


async def test_the_rules_of_a_server_go_when_the_bot_is_removed(
    fake: FakeDiscord, bot: Fablewright, mo: Person, channel: Channel
) -> None:
    assert channel.guild is not None
    await told(fake, await fake.slash(mo, channel, "server-settings limits", quota=3))
    await fake.gateway.dispatch("GUILD_DELETE", {"id": str(channel.guild.id)}, shard_of=channel.guild.id)
    guild_key = bot.store.opaque.key("guild", channel.guild.id)
    async with asyncio.timeout(30):
        while await bot.store.settings.get("guild", guild_key):  # noqa: ASYNC110 — there is no event to wait for
            await asyncio.sleep(0.05)


async def test_a_limit_that_was_lowered_bounds_the_stories_of_before(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    message = await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=9))
    await told(fake, await fake.slash(mo, channel, "server-settings limits", longest=4))
    await fake.press(ada, message, "Continue")
    await fake.until(lambda: " · 4 tokens" in small_print(message))


async def test_a_chosen_model_that_is_gone_or_damaged_is_told(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    assert channel.guild is not None
    guild_key = bot.store.opaque.key("guild", channel.guild.id)
    await bot.store.settings.set("guild", guild_key, checkpoint="gone")
    answer = await told(fake, await fake.slash(ada, channel, "write", prompt="Once"))
    assert answer.startswith("The model chosen here is gone. A moderator must choose one again")
    damaged = bot.engines.path("tiny").parent / "damaged"
    damaged.mkdir()
    try:
        (damaged / "config.json").write_text("{")
        answer = await told(fake, await fake.slash(mo, channel, "server-settings checkpoint", name="damaged"))
    finally:
        shutil.rmtree(damaged)
    assert answer.startswith("The model “damaged” is damaged. Choose another one")


async def test_long_lists_of_channels_and_roles_fit_in_one_message(
    fake: FakeDiscord, bot: Fablewright, mo: Person, channel: Channel
) -> None:
    assert channel.guild is not None
    ids = list(range(10**19, 10**19 + 50))
    guild_key = bot.store.opaque.key("guild", channel.guild.id)
    await bot.store.settings.set("guild", guild_key, channels=ids, roles=ids)
    shown = await told(fake, await fake.slash(mo, channel, "server-settings show"))
    assert f"- channels: <#{ids[0]}>, " in shown
    assert f"<@&{ids[24]}> and 25 more\n" in shown
    assert len(shown) <= 2000


async def test_the_model_is_chosen_from_a_list(
    fake: FakeDiscord, bot: Fablewright, ada: Person, mo: Person, channel: Channel
) -> None:
    typed = await fake.autocomplete(mo, channel, "server-settings checkpoint", "name", "ti")
    await fake.until(lambda: typed.response)
    assert [choice["value"] for choice in typed.choices] == ["tiny"]
    answer = await told(fake, await fake.slash(mo, channel, "server-settings checkpoint", name="huge"))
    assert answer == "There is no model “huge”. Choose one of tiny."
    assert "model: tiny" in await told(fake, await fake.slash(mo, channel, "server-settings checkpoint", name="tiny"))
    await stands(fake, await fake.slash(ada, channel, "write", prompt="Once", length=5))


async def test_all_can_be_shown_and_taken_back(
    fake: FakeDiscord, bot: Fablewright, mo: Person, channel: Channel
) -> None:
    await told(fake, await fake.slash(mo, channel, "server-settings limits", quota=5, longest=100, cooldown=2.5))
    shown = await told(fake, await fake.slash(mo, channel, "server-settings show"))
    assert "longest continuation: 100 tokens\n- cooldown: 2.5 s\n- daily quota: 5" in shown
    await told(fake, await fake.slash(mo, channel, "server-settings reset", name="daily_quota"))
    assert "daily quota: no limit" in await told(fake, await fake.slash(mo, channel, "server-settings show"))
    await told(fake, await fake.slash(mo, channel, "server-settings reset"))
    assert "longest continuation: 2000" in await told(fake, await fake.slash(mo, channel, "server-settings show"))
