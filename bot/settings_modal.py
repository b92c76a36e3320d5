"""The form behind a story's Settings button. It is answered by its id alone, so a restart in between loses nothing."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import discord

from core.errors import InputError
from core.requests import RANGES, SEED_RANGE

from .replies import acknowledge, explained, tell
from .story import Story

if TYPE_CHECKING:
    from .storyteller import Storyteller

_ID = re.compile(r"story:(?P<story>[0-9a-f]{32}):form")
_FIELDS = {
    "max_tokens": ("Length", "tokens; a token is about two thirds of a word", int),
    "temperature": ("Temperature", f"{RANGES['temperature']}; higher is wilder", float),
    "top_p": ("Top p", f"{RANGES['top_p']}; lower keeps to likely words", float),
    "repetition_penalty": ("Repetition penalty", f"{RANGES['repetition_penalty']}; 1 is off", float),
    "seed": ("Seed", f"a whole number from 0 to {SEED_RANGE - 1}; for the next text only", int),
}


class SettingsModal(discord.ui.Modal, title="Settings of this story"):
    """Asks for what the next Continue or Retry gets; empty means as usual."""

    def __init__(self, story: Story) -> None:
        super().__init__(custom_id=f"story:{story.id}:form")
        for name, (label, description, _) in _FIELDS.items():
            value = story.asked.get(name)
            text = discord.ui.TextInput[Any](
                custom_id=name, required=False, max_length=30, default=None if value is None else str(value)
            )
            self.add_item(discord.ui.Label(text=label, description=description, component=text))
        self.stop()  # discord.py shall not wait for it: `answer` takes it, now or after a restart


async def answer(interaction: discord.Interaction[Any], storyteller: "Storyteller") -> None:
    """Take a filled-in form."""
    data: Any = interaction.data
    match = _ID.fullmatch(data["custom_id"])
    if match is None:
        return
    async with explained(interaction):
        await acknowledge(interaction, ephemeral=True, thinking=True)
        asked = {name: _number(name, text) for name, text in _values(data["components"]) if text.strip()}
        await storyteller.change_settings(interaction, match["story"], asked)
        await tell(interaction, "Saved. The next Continue or Retry of this story uses these settings.")


def _values(components: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for label in components:
        field = label.get("component", {})
        if field.get("custom_id") in _FIELDS:
            yield field["custom_id"], field["value"]


def _number(name: str, text: str) -> float:
    label, _, kind = _FIELDS[name]
    try:
        number: float = kind(text.strip().replace(",", "."))
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise InputError(f"{label} must be {expected}, got “{text[:40]}”. Press Settings and try again", name) from None
    return number
