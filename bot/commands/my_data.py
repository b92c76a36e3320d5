"""`/my-data`: all that is kept of a user, to take away or to delete."""

import asyncio
import gzip
import io
import json
import re
from typing import TYPE_CHECKING, Any, Self

import discord
from discord import app_commands

from ..places import Place
from ..replies import NO_MENTIONS, RefusedError, acknowledge, explained, tell

if TYPE_CHECKING:
    from ..client import Fablewright

QUESTION = (
    "This deletes every story, setting and log row that is kept of you, at once and for good. Messages in Discord "
    "stay, but their buttons stop working. Delete it all?"
)

my_data = app_commands.Group(name="my-data", description="All that is kept of you: take it away or delete it.")


@my_data.command(name="export", description="Get all that is kept of you as a file.")
async def export(interaction: "discord.Interaction[Fablewright]") -> None:
    await acknowledge(interaction, ephemeral=True, thinking=True)
    client = interaction.client
    kept = await client.store.privacy.export(client.storyteller.user_key(interaction))
    for story in kept["stories"]:  # with a token anybody could write in the bot's name
        story["details"]["place"] = Place(**story["details"]["place"]).without_token()
    content, name = await asyncio.to_thread(_packed, kept, interaction.filesize_limit)
    if len(content) > interaction.filesize_limit:
        raise RefusedError("What is kept of you is larger than Discord lets me send. Ask whoever runs me for it.")
    await interaction.followup.send(
        "This is all that is kept of you.",
        file=discord.File(io.BytesIO(content), filename=name),
        ephemeral=True,
        allowed_mentions=NO_MENTIONS,
    )


def _packed(kept: dict[str, Any], most_bytes: int) -> tuple[bytes, str]:
    """Return a file's content and its name, compressed where it would be too large."""
    content, name = json.dumps(kept, indent=2, ensure_ascii=False).encode(), "fablewright-my-data.json"
    return (content, name) if len(content) <= most_bytes else (gzip.compress(content), f"{name}.gz")


@my_data.command(name="delete", description="Delete all that is kept of you.")
async def delete(interaction: "discord.Interaction[Fablewright]") -> None:
    view = discord.ui.View(timeout=None)
    view.add_item(Decision("delete")).add_item(Decision("keep"))
    await tell(interaction, QUESTION, view=view)


class Decision(discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]], template=r"my-data:(?P<what>delete|keep)"):
    """The answer to the question; only who asked sees it."""

    def __init__(self, what: str) -> None:
        label, style = {
            "delete": ("Delete it all", discord.ButtonStyle.danger),
            "keep": ("Keep it", discord.ButtonStyle.secondary),
        }[what]
        super().__init__(discord.ui.Button(label=label, style=style, custom_id=f"my-data:{what}"))
        self.what = what

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["what"])

    async def callback(self, interaction: "discord.Interaction[Fablewright]") -> None:  # type: ignore[override]
        client = interaction.client
        async with explained(interaction):
            await acknowledge(interaction)
            text = "Nothing was deleted."
            if self.what == "delete":
                user_key = client.storyteller.user_key(interaction)
                await client.storyteller.forget(user_key)
                rows = await client.store.privacy.delete(user_key)
                text = f"Everything that was kept of you is deleted ({rows} rows)."
            await interaction.edit_original_response(content=text, view=None, allowed_mentions=NO_MENTIONS)
