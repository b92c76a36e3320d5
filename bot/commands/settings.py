"""`/settings`: one's own defaults, in every server and in direct messages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from core.errors import InputError
from core.requests import GenerationRequest, SamplingDefaults, sampling_params

from ..replies import acknowledge, tell
from ..sampling import SHOWN_AS, USER_SETTINGS, listing
from .options import CacheStrength, MinP, Pace, RepetitionPenalty, Temperature, TopK, TopP

if TYPE_CHECKING:
    from ..client import Fablewright

_STORED_AS = {shown: name for name, shown in SHOWN_AS.items()}
_NAMES = [SHOWN_AS.get(name, name) for name in USER_SETTINGS]


class AwaitedGroup(app_commands.Group):
    """Acknowledges its commands before they ask the store, which may take longer than Discord waits."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        await acknowledge(interaction, ephemeral=True, thinking=True)
        return True


def user_settings(longest: int) -> app_commands.Group:
    """Make `/settings show|set|reset`."""
    group = AwaitedGroup(name="settings", description="Your own defaults for every story.")
    _add_reading(group)
    _add_setting(group, longest)
    return group


def _add_reading(group: app_commands.Group) -> None:
    @group.command(name="show", description="Show your own defaults.")
    async def show(interaction: "discord.Interaction[Fablewright]") -> None:
        client = interaction.client
        values = await client.store.settings.get("user", client.storyteller.user_key(interaction))
        if lines := listing(values):
            await tell(interaction, f"Your own defaults:\n{lines}\nEverything else is as the server has it.")
        else:
            await tell(interaction, "You have set nothing: the server's defaults hold. Set yours with /settings set.")

    @group.command(name="reset", description="Forget your own defaults, one or all.")
    @app_commands.describe(name="Which one; leave it out to forget all")
    async def reset(interaction: "discord.Interaction[Fablewright]", name: str | None = None) -> None:
        await reset_names(interaction, "user", interaction.client.storyteller.user_key(interaction), name, _NAMES)

    @reset.autocomplete("name")
    async def names(_: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return choices(_NAMES, typed)


def _add_setting(group: app_commands.Group, longest: int) -> None:
    @group.command(name="set", description="Set your own defaults; what you leave out stays as it is.")
    @app_commands.describe(
        length="How many tokens to write",
        temperature="0 always takes the likeliest word, higher is wilder",
        top_p="Keep only the likeliest words that together reach this probability",
        top_k="Keep only this many of the likeliest words; 0 is off",
        min_p="Drop words below this share of the likeliest one's probability; 0 is off",
        repetition_penalty="Above 1 makes words already used less likely",
        cache_strength="How much a story's own words come back; 0 is off",
        pace="Tokens a second that you watch being written; 0 is all at once",
    )
    async def set_(
        interaction: "discord.Interaction[Fablewright]",
        length: app_commands.Range[int, 1, longest] | None = None,
        temperature: Temperature | None = None,
        top_p: TopP | None = None,
        top_k: TopK | None = None,
        min_p: MinP | None = None,
        repetition_penalty: RepetitionPenalty | None = None,
        cache_strength: CacheStrength | None = None,
        pace: Pace | None = None,
    ) -> None:
        given = {
            "max_tokens": length,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "cache_strength": cache_strength,
            "pace": pace,
        }
        values = checked(given, interaction.client.defaults)
        await interaction.client.store.settings.set(
            "user", interaction.client.storyteller.user_key(interaction), **values
        )
        await tell(interaction, f"Saved as your own defaults:\n{listing(values)}")


def checked(given: Mapping[str, Any], defaults: SamplingDefaults) -> dict[str, Any]:
    """Return what was given, in range. Raises InputError, also where nothing was given."""
    values = {name: value for name, value in given.items() if value is not None}
    if not values:
        raise InputError("choose at least one setting: Discord lists them above what you type")
    sampling = {name: value for name, value in values.items() if name != "pace"}
    GenerationRequest(prompt="", sampling=sampling_params(defaults, **sampling), pace=values.get("pace", 0.0))
    return values


async def reset_names(
    interaction: "discord.Interaction[Fablewright]", scope: Any, owner: str, name: str | None, names: list[str]
) -> None:
    """Unset one setting of a scope, or all of them, and say so. Raises InputError for a name that is none."""
    settings = interaction.client.store.settings
    if name is None:
        await settings.reset(scope, owner)
        await tell(interaction, "Everything is as it was before you set it.")
        return
    if name not in names:
        raise InputError(f"“{name[:60]}” is no setting. Choose one of {', '.join(names)}", "name")
    await settings.set(scope, owner, **{_STORED_AS.get(name, name): None})
    await tell(interaction, f"{name} is as it was before you set it.")


def choices(names: list[str], typed: str) -> list[app_commands.Choice[str]]:
    """Return the names that hold what was typed, as many as Discord shows."""
    found = [name for name in names if typed.lower() in name.lower()]
    return [app_commands.Choice(name=name[:100], value=name[:100]) for name in found[:25]]
