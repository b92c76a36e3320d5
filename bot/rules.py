"""A server's rules: where, who, how much, how often. Moderators set them with /server-settings."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import discord

from .replies import RefusedError
from .settings import BotSettings

EVERYONE = 0  # the role @everyone: its own id is the server's, which is not stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRules:
    """What holds in one server. Outside of servers the installation's limits hold and nothing is logged."""

    channels: tuple[int, ...] = ()  # empty: every channel
    roles: tuple[int, ...] = ()  # empty: everybody; EVERYONE stands for @everyone
    longest: int
    cooldown_s: float
    daily_quota: int  # stories and continuations a user a day (UTC); 0 = no limit
    logs_prompts: bool = False
    checkpoint: str | None = None

    @classmethod
    def read(cls, values: dict[str, Any], settings: BotSettings) -> Self:
        """Lay a server's settings over config.toml's."""
        return cls(
            channels=tuple(values.get("channels", ())),
            roles=tuple(values.get("roles", ())),
            longest=min(values.get("longest", settings.longest), settings.longest),
            cooldown_s=values.get("cooldown_s", settings.cooldown_s),
            daily_quota=values.get("daily_quota", settings.daily_quota),
            logs_prompts=values.get("logs_prompts", False),
            checkpoint=values.get("checkpoint"),
        )

    def check_place(self, interaction: discord.Interaction[Any], *, is_private: bool) -> None:
        """Raise RefusedError where the channel is closed to stories or the bot may not write in it."""
        channel = interaction.channel
        allowed = {interaction.channel_id, getattr(channel, "parent_id", None)} & set(self.channels)
        if self.channels and not allowed:
            open_channels = ", ".join(f"<#{id_}>" for id_ in self.channels[:10])
            raise RefusedError(f"Stories are not written in this channel. Go to {open_channels}.")
        if interaction.is_guild_integration() and not is_private and not can_write(interaction):
            raise RefusedError(
                "I am not allowed to write in this channel. Ask a moderator to give me View Channel and Send Messages "
                "(in a thread: Send Messages in Threads) here, or use /write with private: True."
            )

    def check_person(self, interaction: discord.Interaction[Any]) -> None:
        """Raise RefusedError where the server lets only some roles write and the person has none of them."""
        member = interaction.user
        if not self.roles or not isinstance(member, discord.Member):
            return
        held = {*member._roles, EVERYONE}  # `roles` knows none until the server itself has come from Discord
        if not held & {*self.roles}:
            roles = ", ".join(map(role_mention, self.roles[:10]))
            raise RefusedError(f"In this server only {roles} may write stories. Ask a moderator for the role.")


def role_mention(id_: int) -> str:
    return "@everyone" if id_ == EVERYONE else f"<@&{id_}>"


def can_write(interaction: discord.Interaction[Any]) -> bool:
    """Say whether the bot may send ordinary messages where the interaction came from."""
    permissions = interaction.app_permissions
    if isinstance(interaction.channel, discord.Thread):
        return permissions.view_channel and permissions.send_messages_in_threads
    return permissions.view_channel and permissions.send_messages


def is_member(interaction: discord.Interaction[Any]) -> bool:
    """Say whether the bot itself is in the server, or only its commands are."""
    return interaction.guild_id is not None and interaction.client.get_guild(interaction.guild_id) is not None


NEVER = float("-inf")


@dataclass(slots=True)
class _Tally:
    day: str
    count: int
    last_at: float = NEVER
    before_last_at: float = NEVER


class Usage:
    """Counts a user's stories in each server for cooldown and quota.

    `count_today(user_key, guild_key)` asks the log once a day for each; from then on the count is kept here, so that
    presses at the same instant cannot slip past the log.
    """

    MOST = 10_000

    def __init__(self, count_today: Callable[[str, str | None], Awaitable[int]]) -> None:
        self._count_today = count_today
        self._tallies: OrderedDict[tuple[str, str | None], _Tally] = OrderedDict()

    async def take(self, user_key: str, guild_key: str | None, rules: ServerRules) -> None:
        """Count one more. Raises RefusedError where the cooldown is not over or the day's quota is spent."""
        today = datetime.now(UTC).date().isoformat()
        owner = (user_key, guild_key)
        tally = self._tallies.get(owner)
        if tally is None or tally.day != today:
            count = await self._count_today(*owner)
            tally = self._tallies.setdefault(owner, _Tally(today, count))
            if tally.day != today:
                tally.day, tally.count = today, count
        self._check(tally, rules)
        tally.count += 1
        tally.before_last_at, tally.last_at = tally.last_at, time.monotonic()
        self._tallies.move_to_end(owner)
        if len(self._tallies) > self.MOST:
            self._tallies.popitem(last=False)

    def give_back(self, user_key: str, guild_key: str | None) -> None:
        """Take back the last count: nothing was written for it."""
        if tally := self._tallies.get((user_key, guild_key)):
            tally.count, tally.last_at = max(0, tally.count - 1), tally.before_last_at

    def _check(self, tally: _Tally, rules: ServerRules) -> None:
        wait_s = tally.last_at + rules.cooldown_s - time.monotonic()
        if wait_s > 0:
            raise RefusedError(f"Here you may write every {rules.cooldown_s:g} s. Wait {wait_s:.0f} s more.")
        if rules.daily_quota and tally.count >= rules.daily_quota:
            raise RefusedError(
                f"You have written {tally.count} times here today, and {rules.daily_quota} a day are "
                "allowed. Come back after midnight UTC."
            )
