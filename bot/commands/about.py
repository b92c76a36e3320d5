"""`/about`: which model writes here, what it learnt from, under which licence."""

import asyncio
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from ..splitting import MESSAGE_CHARS

if TYPE_CHECKING:
    from ..client import Fablewright

_HEAD = (
    "**Fablewright** writes on from your words with a small recurrent network that was trained on books. "
    "The software is under the MIT licence.\n"
)
_CUT = "\n… The whole card stands beside the model."


@app_commands.command(name="about", description="The model that writes here: its data, its limits, its licence.")
async def about(interaction: "discord.Interaction[Fablewright]") -> None:
    await interaction.response.defer(ephemeral=True)
    card = await asyncio.to_thread(interaction.client.model_card, await interaction.client.checkpoint_for(interaction))
    room = MESSAGE_CHARS - len(_HEAD) - len(_CUT)
    text = card if len(card) <= room else card[: card.rfind("\n", 0, room)] + _CUT
    await interaction.followup.send(_HEAD + text, ephemeral=True, suppress_embeds=True)
