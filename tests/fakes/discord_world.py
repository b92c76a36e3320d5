"""What a fake Discord is made of: people, guilds, channels, messages and interactions, and the JSON each is sent as.

Follows Discord's API v10 reference; the fields are those discord.py reads. Knows nothing of HTTP or sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

EPHEMERAL = 1 << 6
LOADING = 1 << 7
MANAGE_GUILD, VIEW_CHANNEL, SEND_MESSAGES = 1 << 5, 1 << 10, 1 << 11
TEXT_CHANNEL, DM_CHANNEL, CATEGORY = 0, 1, 4
EPOCH_MS = 1_420_070_400_000

_increments = itertools.count()

Json = dict[str, Any]


def snowflake(age_s: float = 0.0) -> int:
    """Make an id that says it was created `age_s` seconds ago; ids of one moment still differ."""
    created_ms = int((time.time() - age_s) * 1000) - EPOCH_MS
    return created_ms << 22 | next(_increments) & 0x3FFFFF


def created_at(id_: int) -> float:
    """Read the UNIX time in seconds out of a snowflake."""
    return ((id_ >> 22) + EPOCH_MS) / 1000


@dataclass(eq=False, kw_only=True)
class Person:
    id: int = field(default_factory=snowflake)
    name: str
    is_bot: bool = False
    permissions: int = VIEW_CHANNEL | SEND_MESSAGES
    role_ids: tuple[int, ...] = ()

    def as_user(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.name,
            "discriminator": "0",
            "global_name": self.name,
            "avatar": None,
            "bot": self.is_bot,
            "public_flags": 0,
        }

    def as_member(self) -> Json:
        return {
            "user": self.as_user(),
            "roles": [str(role_id) for role_id in self.role_ids],
            "joined_at": "2024-01-01T00:00:00+00:00",
            "premium_since": None,
            "nick": None,
            "avatar": None,
            "deaf": False,
            "mute": False,
            "pending": False,
            "flags": 0,
            "permissions": str(self.permissions),
        }


@dataclass(eq=False, kw_only=True)
class Guild:
    id: int = field(default_factory=snowflake)
    name: str
    roles: dict[int, str] = field(default_factory=dict)
    channels: list[Channel] = field(default_factory=list)
    has_bot: bool = True  # False: people brought the application themselves (user install)

    def as_json(self, bot: Person) -> Json:
        everyone = _role(self.id, "@everyone")
        return {
            "id": str(self.id),
            "name": self.name,
            "unavailable": False,
            "member_count": 2,
            "owner_id": "1",
            "features": [],
            "roles": [everyone, *(_role(id_, name) for id_, name in self.roles.items())],
            "channels": [channel.as_json() for channel in self.channels],
            "members": [bot.as_member()],
            "emojis": [],
            "stickers": [],
            "threads": [],
            "voice_states": [],
            "presences": [],
        }


@dataclass(eq=False, kw_only=True)
class Channel:
    id: int = field(default_factory=snowflake)
    name: str
    guild: Guild | None = None
    recipient: Person | None = None
    kind: int = TEXT_CHANNEL  # in a guild
    bot_permissions: int = VIEW_CHANNEL | SEND_MESSAGES
    is_archived: bool = False  # as a thread can be; only what people do opens it again

    @property
    def type(self) -> int:
        return DM_CHANNEL if self.guild is None else self.kind

    def as_json(self) -> Json:
        if self.guild is None:
            recipients = [self.recipient.as_user()] if self.recipient else []
            return {"id": str(self.id), "type": DM_CHANNEL, "recipients": recipients, "last_message_id": None}
        return {
            "id": str(self.id),
            "type": self.kind,
            "guild_id": str(self.guild.id),
            "name": self.name,
            "position": 0,
            "parent_id": None,
            "permission_overwrites": [],
            "nsfw": False,
            "topic": None,
            "rate_limit_per_user": 0,
        }


@dataclass(eq=False, kw_only=True)
class Message:
    id: int = field(default_factory=snowflake)
    channel: Channel
    author: Person
    content: str = ""
    flags: int = 0
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None  # of the interaction whose webhook made it
    is_deleted: bool = False
    edited_at: list[float] = field(default_factory=list)
    history: list[str] = field(default_factory=list)  # every content it has had

    @property
    def is_ephemeral(self) -> bool:
        return bool(self.flags & EPHEMERAL)

    @property
    def is_loading(self) -> bool:
        return bool(self.flags & LOADING)

    @property
    def buttons(self) -> dict[str, Json]:
        """Buttons that can be pressed, by label."""
        row_items = [item for row in self.components for item in row.get("components", [])]
        return {item["label"]: item for item in row_items if item["type"] == 2 and not item.get("disabled")}

    def as_json(self) -> Json:
        return {
            "id": str(self.id),
            "channel_id": str(self.channel.id),
            "author": self.author.as_user(),
            "content": self.content,
            "flags": self.flags,
            "type": 0 if self.token is None else 20,
            "embeds": self.embeds,
            "components": self.components,
            "attachments": self.attachments,
            "mentions": [],
            "mention_roles": [],
            "mention_everyone": False,
            "pinned": False,
            "tts": False,
            "timestamp": datetime.fromtimestamp(created_at(self.id), UTC).isoformat(),
            "edited_timestamp": None,
        }


@dataclass(eq=False, kw_only=True)
class Interaction:
    """One thing a person did, and what came back for it."""

    id: int
    token: str
    type: int
    data: Json
    person: Person
    channel: Channel
    message: Message | None = None  # the one whose button was pressed
    sent_at: float = 0.0  # time.perf_counter() when it left for the bot
    response: Json | None = None  # the callback's body
    acknowledged_after_s: float | None = None
    original: Message | None = None  # what @original stands for
    followups: list[Message] = field(default_factory=list)
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def reply(self) -> Message:
        assert self.original is not None, f"interaction {self.id} has no reply yet, response {self.response}"
        return self.original

    @property
    def messages(self) -> list[Message]:
        """Everything standing that this interaction wrote, oldest first."""
        written = ([self.original] if self.original else []) + self.followups
        return [message for message in written if not message.is_deleted]

    @property
    def modal(self) -> Json:
        return self._answer(9)

    @property
    def choices(self) -> list[Json]:
        return list(self._answer(8)["choices"])

    def _answer(self, kind: int) -> Json:
        assert self.response is not None, f"interaction {self.id} has no answer yet"
        assert self.response["type"] == kind, f"expected an answer of type {kind}, got {self.response}"
        return dict(self.response["data"])


def _role(id_: int, name: str) -> Json:
    colors = {"primary_color": 0, "secondary_color": None, "tertiary_color": None}
    return {
        "id": str(id_),
        "name": name,
        "permissions": "0",
        "position": 0,
        "colors": colors,
        "hoist": False,
        "managed": False,
        "mentionable": False,
    }
