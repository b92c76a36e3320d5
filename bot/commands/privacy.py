"""`/privacy`: what is kept of people, and for how long, as it holds where it is asked."""

from typing import TYPE_CHECKING

import discord
from discord import app_commands

from ..replies import acknowledge, tell

if TYPE_CHECKING:
    from ..client import Fablewright


@app_commands.command(name="privacy", description="What is kept of you, and for how long.")
async def privacy(interaction: "discord.Interaction[Fablewright]") -> None:
    await acknowledge(interaction, ephemeral=True, thinking=True)
    client = interaction.client
    rules = await client.storyteller.server_rules(interaction)
    is_logged = rules.logs_prompts and client.store.log_settings.keep_text
    days = client.store.log_settings.retention_days
    span = f"after {days} days" if days else "only when you delete it"
    where = "In this server" if interaction.guild_id else "Here"
    text = (
        "**What is kept of you**\n"
        "- Your Discord id is not stored: a keyed fingerprint of it stands in its place.\n"
        "- Of every story: its text and where its messages stand, so that the buttons go on working; "
        f"removed {span}, or when its last message is deleted while it is written.\n"
        f"- Of every continuation: time, settings, seed, counts; removed {span}. {where} its prompt and text are "
        f"**{'kept in the log too' if is_logged else 'not kept in the log'}**.\n"
        "- Your own defaults from /settings.\n"
        "- I do not read messages: I see only what you give to my commands.\n"
        "See it all with /my-data export. Delete it all at once with /my-data delete; the messages in Discord stay, "
        "and you can delete those there."
    )
    await tell(interaction, text)
