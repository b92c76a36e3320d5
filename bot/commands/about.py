"""`/about`: which model writes here, what it learnt from, under which licence."""

import asyncio
from typing import TYPE_CHECKING

import discord
from discord import app_commands

from ..replies import acknowledge
from ..splitting import MESSAGE_CHARS

if TYPE_CHECKING:
    from ..client import Fablewright

_HEAD = (
    "**Fablewright** writes on from your words with a small recurrent network that was trained on books. "
    "The software is under the MIT licence.\n"
)
_LEFT_OUT = "Training", "Sample"  # sections; the command line and a page of text
_LINE_CHARS = 160  # a line of the card may name a hundred books
_CUT = "\n… The whole card stands beside the model."


@app_commands.command(name="about", description="The model that writes here: its data, its limits, its licence.")
async def about(interaction: "discord.Interaction[Fablewright]") -> None:
    await acknowledge(interaction, ephemeral=True, thinking=True)
    card = await asyncio.to_thread(interaction.client.model_card, await interaction.client.checkpoint_for(interaction))
    text = shortened(card, MESSAGE_CHARS - len(_HEAD))
    await interaction.followup.send(_HEAD + text, ephemeral=True, suppress_embeds=True)


def shortened(card: str, room: int) -> str:
    """Return a model card that fits into `room` characters: whole, or without what a reader can best do without."""
    if len(card) <= room:
        return card
    sections = [section for section in card.split("\n## ") if not section.startswith(_LEFT_OUT)]
    lines = "\n## ".join(sections).rstrip().split("\n")
    text = "\n".join(line if len(line) <= _LINE_CHARS else line[:_LINE_CHARS] + " …" for line in lines)
    room -= len(_CUT)
    return (text if len(text) <= room else text[: text.rfind("\n", 0, room)]) + _CUT
