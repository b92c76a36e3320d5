"""The messages that a story stands in, and the two ways to change them.

An interaction's token reaches the messages it made, for 15 minutes. After that, and for older messages, the bot edits
as any bot does, where it is in the channel. What can be reached neither way stays as it is.
"""

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import discord

from .replies import NO_MENTIONS
from .rules import can_write, is_member

log = logging.getLogger(__name__)

TOKEN_LIFE_S = 15 * 60.0
TOKEN_MARGIN_S = 20.0  # a slow answer must not meet an expired token
UNKNOWN_MESSAGE, UNKNOWN_CHANNEL, UNKNOWN_WEBHOOK, INVALID_TOKEN = 10008, 10003, 10015, 50027
ARCHIVED = 50083
FOLLOWUPS_SPENT = 40094  # five to a press, where people brought the bot themselves


class OutOfReachError(Exception):
    """Neither the token nor the channel lets the bot write any more."""


class DeletedError(Exception):
    """Somebody deleted the story's last message, or the channel that it stands in."""


@dataclass(kw_only=True)
class Place:
    """Where a story stands; kept with it while it is written and after."""

    channel_id: int
    is_private: bool  # for one person's eyes: Discord calls it ephemeral
    in_channel: bool = False  # the bot may edit here without a token
    message_ids: list[int] = field(default_factory=list)
    application_id: int = 0
    token: str | None = None
    token_ids: list[int] = field(default_factory=list)  # the messages that the token reaches
    token_until: float = 0.0  # UNIX time in seconds

    @classmethod
    def of(cls, interaction: discord.Interaction[Any], *, is_private: bool) -> Self:
        """Read off an interaction how its messages can be changed."""
        return cls(channel_id=interaction.channel_id or 0, is_private=is_private).renewed_by(interaction)

    def renewed_by(self, interaction: discord.Interaction[Any]) -> Self:
        """Take what every button press brings: a new token, good for its message, and what the bot may do here now."""
        if interaction.guild_id is None:
            is_home = interaction.context.dm_channel
        else:  # it can be installed with its commands alone, and be no member
            is_home = interaction.is_guild_integration() and is_member(interaction) and can_write(interaction)
        self.in_channel = is_home and not self.is_private
        self.application_id, self.token = interaction.application_id, interaction.token
        self.token_until = interaction.created_at.timestamp() + TOKEN_LIFE_S
        self.token_ids = [interaction.message.id] if interaction.message else []
        return self

    def without_token(self) -> dict[str, Any]:
        """Return what is kept once nothing is being written."""
        return asdict(self) | {"token": None, "token_ids": [], "token_until": 0.0}

    @property
    def has_token(self) -> bool:
        return self.token is not None and time.time() < self.token_until - TOKEN_MARGIN_S

    @property
    def seconds_left(self) -> float:
        """How long messages here can be changed."""
        return float("inf") if self.in_channel else self.token_until - TOKEN_MARGIN_S - time.time()


@dataclass(slots=True)
class _Shown:
    content: str
    buttons: tuple[str, ...]


class StoryMessages:
    """Makes a story's messages say what they should, with the fewest edits."""

    def __init__(
        self, client: discord.Client, place: Place, shown: list[str], followup: discord.Webhook | None = None
    ) -> None:
        """`shown` is what the place's messages say now, as far as it is known; `followup` can add more by token."""
        self.place = place
        self._client, self._followup = client, followup
        self._nonce = _nonce()
        contents = shown + [""] * len(place.message_ids)
        unknown = ("unknown",)
        self._shown = {
            id_: _Shown(content.strip(), unknown) for id_, content in zip(place.message_ids, contents, strict=False)
        }
        for id_ in place.message_ids[:-1]:
            self._shown[id_].buttons = ()

    async def show(self, contents: list[str], view: discord.ui.View | None) -> None:
        """Show one content a message, buttons under the last, and remove messages that are left over.

        Every message is edited once at most. Raises DeletedError, OutOfReachError, and discord.py's HTTP errors.
        """
        ids = self.place.message_ids
        for at, content in enumerate(contents):
            try:
                await self._put(at, content, view if at == len(contents) - 1 else None)
            except OutOfReachError:
                if at > 0:  # without its buttons the story could not be gone on with
                    await self._edit(ids[at - 1], contents[at - 1], view)
                raise
        for message_id in ids[len(contents) :]:
            await self._delete(message_id)
        del ids[len(contents) :]

    async def _put(self, at: int, content: str, view: discord.ui.View | None) -> None:
        """Make the message at a place say `content`. One that is out of reach gives way, once another stands for it."""
        ids = self.place.message_ids
        for found in range(at, len(ids)):
            if await self._edit(ids[found], content, view):
                break
        else:
            found = len(ids)
            ids.append(await self._append(content, view))
            await self._edit(ids[found], content, view)  # it may be one whose answer got lost, and be behind
        del ids[at:found]

    async def _edit(self, message_id: int, content: str, view: discord.ui.View | None) -> bool:
        """Return False where the message is out of reach."""
        wanted = _Shown(content.strip(), _ids(view.children if view else ()))
        if self._shown.get(message_id) == wanted:
            return True
        for edit in (self._edit_by_token, self._edit_in_channel):
            if await edit(message_id, content=content, view=view):
                self._shown[message_id] = wanted
                return True
        return False

    async def _edit_by_token(self, message_id: int, **change: Any) -> bool:
        if not self.place.has_token or message_id not in self.place.token_ids:
            return False
        try:
            await self._webhook().edit_message(message_id, allowed_mentions=NO_MENTIONS, **change)
        except discord.HTTPException as error:
            return self._survive(error, message_id)
        return True

    async def _edit_in_channel(self, message_id: int, **change: Any) -> bool:
        if not self.place.in_channel:
            return False
        channel = self._client.get_partial_messageable(self.place.channel_id)
        try:
            await channel.get_partial_message(message_id).edit(allowed_mentions=NO_MENTIONS, **change)
        except discord.Forbidden:
            self.place.in_channel = False
            return False
        except discord.HTTPException as error:
            return self._survive(error, message_id)
        return True

    async def _append(self, content: str, view: discord.ui.View | None) -> int:
        message = await self._append_in_channel(content, view) or await self._append_by_token(content, view)
        if message is None:
            raise OutOfReachError
        buttons = _ids(item for row in message.components for item in getattr(row, "children", ()))
        self._shown[message.id] = _Shown(message.content, buttons)
        return message.id

    async def _append_in_channel(self, content: str, view: discord.ui.View | None) -> discord.Message | None:
        """Add a message, once: Discord answers a nonce that it knows with the message that it made for it."""
        if not self.place.in_channel:
            return None
        channel = self._client.get_partial_messageable(self.place.channel_id)
        buttons: dict[str, Any] = {"view": view} if view else {}
        try:
            message = await channel.send(content, nonce=self._nonce, allowed_mentions=NO_MENTIONS, **buttons)
        except discord.Forbidden:  # it may still be allowed to edit
            return None
        except discord.HTTPException as error:
            self._survive(error)
            return None
        self._nonce = _nonce()
        return message

    async def _append_by_token(self, content: str, view: discord.ui.View | None) -> discord.Message | None:
        if self._followup is None or not self.place.has_token:
            return None
        try:
            message = await self._followup.send(
                content,
                view=view or discord.utils.MISSING,
                ephemeral=self.place.is_private,
                allowed_mentions=NO_MENTIONS,
                wait=True,
            )
        except discord.HTTPException as error:
            self._survive(error)
            return None
        self.place.token_ids.append(message.id)
        return message

    async def _delete(self, message_id: int) -> None:
        try:
            if self.place.has_token and message_id in self.place.token_ids:
                await self._webhook().delete_message(message_id)
            elif self.place.in_channel:
                channel = self._client.get_partial_messageable(self.place.channel_id)
                await channel.get_partial_message(message_id).delete()
        except discord.NotFound:
            pass  # somebody was faster

    def _webhook(self) -> discord.Webhook:
        if self._followup is not None:
            return self._followup
        assert self.place.token is not None
        return discord.Webhook.partial(self.place.application_id, self.place.token, client=self._client)

    def _survive(self, error: discord.HTTPException, message_id: int | None = None) -> bool:
        """Return False where another way may still work, or another message stand for this one; else raise."""
        if error.code == UNKNOWN_MESSAGE and message_id in self.place.message_ids[:-1]:
            return False
        if error.code in (UNKNOWN_MESSAGE, UNKNOWN_CHANNEL):
            raise DeletedError from None
        if error.code in (UNKNOWN_WEBHOOK, INVALID_TOKEN):
            self.place.token = None
            return False
        if error.code == ARCHIVED:
            self.place.in_channel = False  # a message more would open the thread again
        if error.code in (ARCHIVED, FOLLOWUPS_SPENT):
            return False
        raise error


def _ids(items: Iterable[Any]) -> tuple[str, ...]:
    return tuple(getattr(item, "custom_id", None) or "" for item in items)


def _nonce() -> str:
    return secrets.token_hex(12)  # Discord takes 25 characters
