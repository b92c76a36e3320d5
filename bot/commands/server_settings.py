"""`/server-settings`: what moderators (Manage Server) decide for their server."""

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from core.errors import CheckpointError, InputError

from ..replies import RefusedError, reference_of, tell
from ..rules import EVERYONE, ServerRules, role_mention
from ..sampling import listing
from ..settings import BotSettings
from .options import Temperature, TopP
from .settings import AwaitedGroup, checked, choices, reset_names

if TYPE_CHECKING:
    from ..client import Fablewright

_RULES = ["channels", "roles", "longest", "cooldown_s", "daily_quota", "logs_prompts", "checkpoint"]
_NAMES = [*_RULES, "length", "temperature", "top_p"]
_WITHOUT = {  # what holds with nothing on a list: told who would take something off it, and who did
    "channels": (
        "No channel is chosen, so stories are written in every one. Open those you want with allowed: True, and all "
        "others are closed.",
        "With no channel chosen, stories are now written in every one. ",
    ),
    "roles": (
        "No role is chosen, so everybody may write. Choose those who shall with allowed: True, and nobody else may.",
        "With no role chosen, everybody may write now. ",
    ),
}
MOST_MENTIONS = 25


class _Moderation(AwaitedGroup):
    """Discord shows the commands to moderators only; this holds where a server's overrides say otherwise too."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        if interaction.guild_id is None:
            raise app_commands.NoPrivateMessage
        if not interaction.permissions.manage_guild:
            raise app_commands.MissingPermissions(["manage_guild"])
        return await super().interaction_check(interaction)


def server_settings(settings: BotSettings) -> app_commands.Group:
    """Make `/server-settings` with its subcommands."""
    group = _Moderation(
        name="server-settings",
        description="What holds for stories in this server.",
        guild_only=True,
        allowed_installs=app_commands.AppInstallationType(guild=True, user=False),
        allowed_contexts=app_commands.AppCommandContext(guild=True, dm_channel=False, private_channel=False),
        default_permissions=discord.Permissions(manage_guild=True),
    )
    _add_reading(group, settings)
    _add_defaults(group, settings.longest)
    _add_limits(group, settings.longest)
    _add_places(group)
    return group


def _add_reading(group: app_commands.Group, settings: BotSettings) -> None:
    @group.command(name="show", description="Show what holds in this server.")
    async def show(interaction: "discord.Interaction[Fablewright]") -> None:
        values = await interaction.client.store.settings.get("guild", _owner(interaction))
        await tell(interaction, _describe(values, settings))

    @group.command(name="reset", description="Take back one setting of this server, or all.")
    @app_commands.describe(name="Which one; leave it out to take back all")
    async def reset(interaction: "discord.Interaction[Fablewright]", name: str | None = None) -> None:
        await reset_names(interaction, "guild", _owner(interaction), name, _NAMES)

    @reset.autocomplete("name")
    async def names(_: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return choices(_NAMES, typed)


def _add_defaults(group: app_commands.Group, longest: int) -> None:
    @group.command(name="defaults", description="What a story gets when its author has not said otherwise.")
    @app_commands.describe(
        length="Tokens to write", temperature="Higher is wilder", top_p="Lower keeps to likely words"
    )
    async def defaults(
        interaction: "discord.Interaction[Fablewright]",
        length: app_commands.Range[int, 1, longest] | None = None,
        temperature: Temperature | None = None,
        top_p: TopP | None = None,
    ) -> None:
        given = {"max_tokens": length, "temperature": temperature, "top_p": top_p}
        await _set(interaction, checked(given, interaction.client.defaults))

    @group.command(name="checkpoint", description="Which model writes here.")
    @app_commands.describe(name="A model of this installation")
    async def checkpoint(interaction: "discord.Interaction[Fablewright]", name: str) -> None:
        known = interaction.client.checkpoint_names()
        if name not in known:
            raise InputError(f"there is no model “{name[:60]}”. Choose one of {', '.join(known)}", "name")
        try:
            await interaction.client.engines.get(name)
        except CheckpointError as error:
            damaged = f"the model “{name}” is damaged. Choose another one, or tell whoever runs me this: "
            raise RefusedError(damaged + reference_of(error)) from error
        await _set(interaction, {"checkpoint": name})

    @checkpoint.autocomplete("name")
    async def names(interaction: "discord.Interaction[Fablewright]", typed: str) -> list[app_commands.Choice[str]]:
        return choices(interaction.client.checkpoint_names(), typed)


def _add_limits(group: app_commands.Group, longest_possible: int) -> None:
    @group.command(name="limits", description="How much and how often each member may have written.")
    @app_commands.describe(
        longest="The most tokens of one continuation",
        cooldown="Seconds between two continuations of one member; 0 is none",
        quota="Continuations a day (UTC) of one member; 0 is no limit",
    )
    async def limits(
        interaction: "discord.Interaction[Fablewright]",
        longest: app_commands.Range[int, 1, longest_possible] | None = None,
        cooldown: app_commands.Range[float, 0.0, 86400.0] | None = None,
        quota: app_commands.Range[int, 0, 100000] | None = None,
    ) -> None:
        given = {"longest": longest, "cooldown_s": cooldown, "daily_quota": quota}
        values = {name: value for name, value in given.items() if value is not None}
        if not values:
            raise InputError("choose at least one limit: Discord lists them above what you type")
        await _set(interaction, values)

    @group.command(name="logging", description="Whether prompts and stories of this server are kept in the log.")
    @app_commands.describe(keep="Off unless you turn it on; settings and counts are kept either way")
    async def logging(interaction: "discord.Interaction[Fablewright]", keep: bool) -> None:
        await _set(interaction, {"logs_prompts": keep})


def _add_places(group: app_commands.Group) -> None:
    @group.command(name="channel", description="Open a channel to stories, or close it; with none open, all are.")
    @app_commands.describe(channel="The channel; its threads go with it", allowed="Whether stories are written there")
    async def channel(
        interaction: "discord.Interaction[Fablewright]", channel: app_commands.AppCommandChannel, allowed: bool
    ) -> None:
        if allowed and channel.type is discord.ChannelType.category:  # nobody writes in one
            raise InputError("a category is no channel: choose its channels one by one", "channel")
        await _list(interaction, "channels", channel.id, allowed=allowed)

    @group.command(name="role", description="Let a role write stories, or no longer; with none chosen, everybody may.")
    @app_commands.describe(role="The role", allowed="Whether its members may write")
    async def role(interaction: "discord.Interaction[Fablewright]", role: discord.Role, allowed: bool) -> None:
        await _list(interaction, "roles", EVERYONE if role.is_default() else role.id, allowed=allowed)


async def _list(interaction: "discord.Interaction[Fablewright]", name: str, id_: int, *, allowed: bool) -> None:
    """Put an id on a list or take it off."""
    values = await interaction.client.store.settings.get("guild", _owner(interaction))
    chosen, (refusal, note) = set(values.get(name, ())), _WITHOUT[name]
    if not chosen and not allowed:
        raise RefusedError(refusal)
    ids = chosen | {id_} if allowed else chosen - {id_}
    await _set(interaction, {name: sorted(ids) or None}, "" if ids else note)


async def _set(interaction: "discord.Interaction[Fablewright]", values: dict[str, Any], note: str = "") -> None:
    client = interaction.client
    await client.store.settings.set("guild", _owner(interaction), **values)
    values = await client.store.settings.get("guild", _owner(interaction))
    await tell(interaction, f"Saved. {note}{_describe(values, client.settings)}")


def _owner(interaction: "discord.Interaction[Fablewright]") -> str:
    guild_key = interaction.client.storyteller.guild_key(interaction)
    assert guild_key is not None  # the group's check saw to it
    return guild_key


def _describe(values: dict[str, Any], settings: BotSettings) -> str:
    rules, defaults = ServerRules.read(values, settings), listing(values)
    lines = [
        "In this server:",
        f"- channels: {_some([f'<#{id_}>' for id_ in rules.channels]) or 'all'}",
        f"- who may write: {_some([role_mention(id_) for id_ in rules.roles]) or 'everybody'}",
        f"- longest continuation: {rules.longest} tokens",
        f"- cooldown: {rules.cooldown_s:g} s" if rules.cooldown_s else "- cooldown: none",
        f"- daily quota: {rules.daily_quota or 'no limit'}",
        f"- prompts and stories in the log: {'kept' if rules.logs_prompts else 'not kept'}",
        f"- model: {rules.checkpoint or 'the default'}",
    ]
    return "\n".join(lines) + (f"\n{defaults}" if defaults else "")


def _some(mentions: list[str]) -> str:
    """Join as many as leave room in a message for a second list."""
    more = len(mentions) - MOST_MENTIONS
    return ", ".join(mentions[:MOST_MENTIONS]) + (f" and {more} more" if more > 0 else "")
