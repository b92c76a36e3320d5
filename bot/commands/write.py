"""`/write`, and the message command "Continue this"."""

import re
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from core.errors import InputError

from ..buttons import story_id_of
from ..replies import RefusedError
from ..splitting import text_of
from .options import Seed, Temperature, TopP

if TYPE_CHECKING:
    from ..client import Fablewright

MAX_PROMPT_CHARS = 4000
SHOWN_CHARS = 400  # of a long text that is continued, as much as this is shown above the continuation
_LONGEST_WORD = 20  # characters in which a word is expected to end


def write_command(longest: int) -> "app_commands.Command[Any, ..., None]":
    """Make `/write`; Discord itself holds people to the ranges."""

    @app_commands.command(name="write", description="Start a story: you write the first words, I write on.")
    @app_commands.describe(
        prompt="The first words of the story",
        length="How many tokens to write; a token is about two thirds of a word",
        temperature="0 always takes the likeliest word, 1 is the model as it was trained, higher is wilder",
        top_p="Keep only the likeliest words that together reach this probability",
        seed="The same seed and settings give the same story again",
        private="Show the story to you alone",
    )
    async def write(
        interaction: "discord.Interaction[Fablewright]",
        prompt: app_commands.Range[str, 1, MAX_PROMPT_CHARS],
        length: app_commands.Range[int, 1, longest] | None = None,
        temperature: Temperature | None = None,
        top_p: TopP | None = None,
        seed: Seed | None = None,
        private: bool = False,
    ) -> None:
        await interaction.client.storyteller.begin(
            interaction,
            _checked(prompt),
            is_private=private,
            max_tokens=length,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )

    return write


@app_commands.context_menu(name="Continue this")
async def continue_this(interaction: "discord.Interaction[Fablewright]", message: discord.Message) -> None:
    """Start a story from any message of one's own or of the bot."""
    me = interaction.client.user
    if me is not None and message.author.id == me.id:
        text = await _my_text(interaction, message)
    elif message.author.id == interaction.user.id:
        text = _checked(message.content)
    else:
        raise RefusedError(
            "I continue only your own messages and mine. Copy the words into /write if you may use them."
        )
    await interaction.client.storyteller.begin(interaction, text, shown_from=_shown_from(text))


async def _my_text(interaction: "discord.Interaction[Fablewright]", message: discord.Message) -> str:
    """Return the whole story of a message with its buttons, and of any other what it says."""
    story_id = story_id_of(message)
    if story_id is None:
        return _checked(text_of(message.content))
    return (await interaction.client.storyteller.stories.load(story_id)).text


def _checked(prompt: str) -> str:
    if not prompt.strip():
        raise InputError("there are no words to write on from. Give me the first words of a story", "prompt")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise InputError(
            f"the prompt must have at most {MAX_PROMPT_CHARS:,} characters, got {len(prompt):,}. Shorten it", "prompt"
        )
    return prompt


def _shown_from(text: str) -> int:
    """Return where to show a long text from: the start of a word, where one is near."""
    if len(text) <= SHOWN_CHARS:
        return 0
    at = len(text) - SHOWN_CHARS
    space = re.search(r"\s", text[at : at + _LONGEST_WORD])
    return at + space.end() if space else at
