import asyncio
from unittest.mock import Mock

import discord
import pytest

from bot.replies import RefusedError
from bot.rules import EVERYONE, ServerRules, Usage
from bot.settings import BotSettings


def rules(**values: object) -> ServerRules:
    return ServerRules.read(values, BotSettings())


async def none_today(user_key: str, guild_key: str | None) -> int:
    return 0


def test_a_server_may_ask_for_less_than_the_installation_allows_and_not_for_more() -> None:
    assert rules(longest=100).longest == 100
    assert rules(longest=4000).longest == 2000


def test_roles_are_known_before_the_server_has_come_from_discord() -> None:
    raw = {"user": {"id": "7", "username": "ada", "discriminator": "0"}, "roles": ["42"], "flags": 0, "joined_at": None}
    guild = discord.Guild._create_unavailable(state=Mock(), guild_id=5, data=None)
    member = discord.Member(data=raw, guild=guild, state=Mock())  # type: ignore[arg-type]
    rules(roles=(42,)).check_person(Mock(user=member))
    rules(roles=(EVERYONE,)).check_person(Mock(user=member))
    with pytest.raises(RefusedError, match="only <@&43> may write stories"):
        rules(roles=(43,)).check_person(Mock(user=member))


async def test_the_quota_counts_what_the_log_has_from_earlier_today() -> None:
    async def two_today(user_key: str, guild_key: str | None) -> int:
        return 2

    usage = Usage(two_today)
    await usage.take("ada", "readers", rules(daily_quota=3))
    with pytest.raises(RefusedError, match="You have written 3 times"):
        await usage.take("ada", "readers", rules(daily_quota=3))


async def test_asking_at_one_instant_counts_each() -> None:
    usage = Usage(none_today)
    outcomes = await asyncio.gather(
        *(usage.take("ada", "readers", rules(daily_quota=2)) for _ in range(5)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(RefusedError) == 3


async def test_users_and_servers_are_counted_apart() -> None:
    usage = Usage(none_today)
    for user_key, guild_key in (("ada", "readers"), ("eve", "readers"), ("ada", "writers"), ("ada", None)):
        await usage.take(user_key, guild_key, rules(daily_quota=1))


async def test_what_was_refused_later_is_given_back() -> None:
    usage = Usage(none_today)
    for _ in range(3):
        await usage.take("ada", None, rules(daily_quota=1, cooldown_s=60))
        usage.give_back("ada", None)


async def test_a_cooldown_names_the_seconds_left() -> None:
    usage = Usage(none_today)
    await usage.take("ada", None, rules(cooldown_s=60))
    with pytest.raises(RefusedError, match=r"every 60 s\. Wait (60|59) s more"):
        await usage.take("ada", None, rules(cooldown_s=60))
