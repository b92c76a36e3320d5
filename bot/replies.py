"""What people are told, for their eyes only: a plain sentence with what to do, never a stack trace.

The bot's one translation of errors; anything unexpected gets a reference that stands in the log beside the trace.
"""

import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import discord
from discord import app_commands

from core.errors import BusyError, CheckpointError, ClosedError, FablewrightError, InputError, StoreError

log = logging.getLogger(__name__)

NO_MENTIONS = discord.AllowedMentions.none()
ACKNOWLEDGED = "acknowledged"  # in an interaction's extras: Discord was told, and its own answer got lost
AWAITED = "awaited"  # in an interaction's extras: everybody sees that its answer is awaited
UNKNOWN_INTERACTION, ALREADY_ACKNOWLEDGED = 10062, 40060
_ASKED_AGAIN_S = 1.0  # the least that discord.py waits before it asks a second time

_ADVICE: tuple[tuple[type[FablewrightError], str], ...] = (
    (BusyError, " Please try again in a minute."),
    (ClosedError, " I am being restarted; please try again in a minute."),
)
_INTERNAL: tuple[tuple[type[FablewrightError], str], ...] = (  # what they say names addresses and files
    (StoreError, "My memory cannot be reached at the moment; please try again in a minute."),
    (CheckpointError, "The model chosen here is gone. A moderator must choose one again: /server-settings checkpoint."),
)
_WORDS = {"max_tokens": "length"}  # the name people know a setting by


class RefusedError(FablewrightError):
    """Somebody may not do this here, or cannot now; the message says what to do instead."""

    code = "refused"


async def acknowledge(
    interaction: discord.Interaction[Any], **shown: bool
) -> discord.InteractionCallbackResponse[Any] | None:
    """Tell Discord that an answer will come; None where it was told, but its own answer got lost.

    Raises HTTPException where another program with our token was the first: then the answer is that one's to give.
    """
    began = time.monotonic()
    try:
        return await interaction.response.defer(**shown)
    except discord.HTTPException as error:
        if error.code != ALREADY_ACKNOWLEDGED or time.monotonic() - began < _ASKED_AGAIN_S:
            raise
        interaction.extras[ACKNOWLEDGED] = True
        return None


async def tell(interaction: discord.Interaction[Any], text: str, **rest: Any) -> None:
    """Say something that only the person who asked sees."""
    try:
        if interaction.extras.pop(AWAITED, False):
            await interaction.delete_original_response()
        if interaction.response.is_done() or ACKNOWLEDGED in interaction.extras:
            await interaction.followup.send(text, ephemeral=True, allowed_mentions=NO_MENTIONS, **rest)
        else:
            await interaction.response.send_message(text, ephemeral=True, allowed_mentions=NO_MENTIONS, **rest)
    except discord.HTTPException as error:
        _note_failure(error)


async def explain(interaction: discord.Interaction[Any], error: BaseException) -> None:
    """Tell the person why what they asked for did not happen."""
    while isinstance(error, app_commands.CommandInvokeError):
        error = error.original
    if isinstance(error, discord.HTTPException) and error.code in (UNKNOWN_INTERACTION, ALREADY_ACKNOWLEDGED):
        _note_failure(error)  # Discord, or the other bot, has told the person already
        return
    await tell(interaction, sentence(error))


@contextlib.asynccontextmanager
async def explained(interaction: discord.Interaction[Any]) -> AsyncIterator[None]:
    """Explain whatever goes wrong within: the border to the person who asked."""
    try:
        yield
    except Exception as error:
        await explain(interaction, error)


def _note_failure(error: discord.HTTPException) -> None:
    if error.code == UNKNOWN_INTERACTION:
        log.warning("an interaction was answered too late")
    elif error.code == ALREADY_ACKNOWLEDGED:
        log.error("an interaction was answered before us: does a second bot run with this DISCORD_TOKEN? Stop one")
    else:
        log.warning("cannot answer an interaction error=%s", error)


def sentence(error: BaseException) -> str:
    """Put an error into words for the person who met it; log it under a reference where it is nobody's input."""
    if isinstance(error, InputError) and error.field == "checkpoint":  # nobody chooses it by a story's settings
        error = CheckpointError(str(error))
    for kind, advice in _INTERNAL:
        if isinstance(error, kind):
            return f"{advice} If it goes on, tell whoever runs me this: {reference_of(error)}"
    if isinstance(error, FablewrightError):
        text = str(error)
        if isinstance(error, InputError) and error.field in _WORDS:
            text = text.replace(error.field, _WORDS[error.field])
        text = text[:1].upper() + text[1:]
        text += "" if text.endswith((".", "!", "?")) else "."
        return text[:1800] + next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
    if isinstance(error, app_commands.MissingPermissions):
        return "You need the permission Manage Server for this. Ask a moderator to do it."
    if isinstance(error, app_commands.NoPrivateMessage):
        return "This works in a server only."
    if isinstance(error, app_commands.TransformerError):
        return f"“{error.value}” does not fit here. Choose from the list Discord offers."[:1800]
    if isinstance(error, app_commands.CommandNotFound | app_commands.CommandSignatureMismatch):
        return "I have been updated since. Reload Discord (Ctrl+R) and try again."
    return f"Something went wrong on my side. If it happens again, tell whoever runs me this: {reference_of(error)}"


def reference_of(error: BaseException) -> str:
    """Log an unexpected error and return the reference it is logged under."""
    reference = secrets.token_hex(4)
    log.error("unexpected error reference=%s", reference, exc_info=error)
    return f"reference {reference}"
