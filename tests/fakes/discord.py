"""A fake Discord on the wire: REST v10 and gateway in aiohttp, and people who use commands and press buttons.

The real bot talks to it over real sockets; only discord.py's two addresses point here. Tests play the people:

    async with FakeDiscord() as discord:
        ada, channel = discord.person("Ada"), discord.channel()
        ...                                             # start the bot against discord.api_url, discord.gateway_url
        story = await discord.slash(ada, channel, "write", prompt="Once upon a time")
        await discord.until(lambda: "Continue" in story.messages[-1].buttons)
        await discord.press(ada, story.messages[-1], "Continue")

What Discord would refuse is refused here (tests/fakes/discord_rest.py); its limits and scripted faults are in
discord_limits.py, the gateway in discord_gateway.py, people and messages in discord_world.py.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

from .discord_gateway import DIRECT_MESSAGES, GUILD_MESSAGES, GUILDS, Gateway, Session
from .discord_limits import Fault, Limits
from .discord_rest import PREFIX, Request, Rest
from .discord_world import MANAGE_GUILD, Channel, Guild, Interaction, Json, Message, Person, snowflake

COMMAND, COMPONENT, AUTOCOMPLETE, MODAL_SUBMIT = 2, 3, 4, 5
SUBCOMMAND, GROUP, STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER = range(1, 11)


class RefusedError(Exception):
    """Discord's own client or server would not let the person do this, so the bot never hears of it."""


class FakeDiscord:
    """One whole Discord with one application in it."""

    def __init__(self, *, token: str = "fake-token", shards: int = 1) -> None:
        self.token, self.shards = token, shards
        self.application_id = snowflake()
        self.bot = Person(id=self.application_id, name="Fablewright", is_bot=True)
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        self.messages: dict[int, Message] = {}
        self.interactions: dict[str, Interaction] = {}
        self.commands: dict[str, Json] = {}
        self.limits = Limits()
        self.rest = Rest(self)
        self.gateway = Gateway(token, self._ready, self._guild_creates, self.notify)
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(self.rest.routes())
        app.router.add_get("/gateway/", self.gateway.handle)
        app.router.add_get("/gateway", self.gateway.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        self.api_url, self.gateway_url = f"http://{host}:{port}{PREFIX}", f"ws://{host}:{port}/gateway"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.close()
        await self._runner.cleanup()

    # -- the world ---------------------------------------------------------------------------------------------------

    def person(self, name: str = "Ada", **rest: Any) -> Person:
        return Person(name=name, **rest)

    def moderator(self, name: str = "Mo") -> Person:
        person = Person(name=name)
        person.permissions |= MANAGE_GUILD
        return person

    def guild(self, name: str = "Readers", **rest: Any) -> Guild:
        guild = Guild(name=name, **rest)
        self.guilds[guild.id] = guild
        return guild

    def channel(self, guild: Guild | None = None, name: str = "stories", **rest: Any) -> Channel:
        """Make a text channel, in a guild of its own where none is given. Make it before the bot identifies."""
        guild = guild or self.guild()
        channel = Channel(name=name, guild=guild, **rest)
        guild.channels.append(channel)
        self.channels[channel.id] = channel
        return channel

    def dm(self, person: Person) -> Channel:
        channel = Channel(name="dm", recipient=person)
        self.channels[channel.id] = channel
        return channel

    def say(self, person: Person, channel: Channel, content: str) -> Message:
        message = Message(channel=channel, author=person, content=content)
        self.messages[message.id] = message
        return message

    async def delete(self, message: Message) -> None:
        message.is_deleted = True
        guild = message.channel.guild
        body = {"id": str(message.id), "channel_id": str(message.channel.id)}
        body |= {"guild_id": str(guild.id)} if guild else {}
        intents = GUILD_MESSAGES if guild else DIRECT_MESSAGES
        await self.gateway.dispatch("MESSAGE_DELETE", body, shard_of=guild.id if guild else 0, intents=intents)
        await self.notify()

    async def announce(self, event: str, message: Message) -> None:
        """Tell the gateway of a message, if intents ask for it and it is not for one person's eyes."""
        if not message.is_ephemeral:
            guild = message.channel.guild
            body = message.as_json() | ({"guild_id": str(guild.id)} if guild else {})
            intents = GUILD_MESSAGES if guild else DIRECT_MESSAGES
            await self.gateway.dispatch(event, body, shard_of=guild.id if guild else 0, intents=intents)

    # -- what people do ----------------------------------------------------------------------------------------------

    async def slash(
        self,
        person: Person,
        channel: Channel,
        command: str,
        /,
        *,
        age_s: float = 0.0,
        checked: bool = True,
        **options: Any,
    ) -> Interaction:
        """Use a command, "settings set" for a subcommand. `checked=False` lets values past the registered limits."""
        data = self._command_data(command, options, checked=checked)
        return await self._send(COMMAND, data, person, channel, age_s=age_s)

    async def autocomplete(
        self, person: Person, channel: Channel, command: str, focused: str, typed: str
    ) -> Interaction:
        data = self._command_data(command, {focused: typed}, checked=False)
        leaf = data
        while leaf["options"][0]["type"] in (SUBCOMMAND, GROUP):
            leaf = leaf["options"][0]
        leaf["options"][0]["focused"] = True
        return await self._send(AUTOCOMPLETE, data, person, channel)

    async def use_on_message(self, person: Person, message: Message, command: str) -> Interaction:
        """Use a message command, from the menu "Apps" of a message."""
        registered = self._registered(command)
        resolved = {"messages": {str(message.id): message.as_json()}}
        data = {"id": registered["id"], "name": command, "type": 3, "target_id": str(message.id), "resolved": resolved}
        return await self._send(COMMAND, data, person, message.channel)

    async def press(self, person: Person, message: Message, label: str, *, age_s: float = 0.0) -> Interaction:
        button = message.buttons.get(label)
        if message.is_deleted or button is None:
            raise RefusedError(f"no button {label!r} to press; there are {list(message.buttons)}")
        return await self.press_id(person, message, button["custom_id"], age_s=age_s)

    async def press_id(self, person: Person, message: Message, custom_id: str, *, age_s: float = 0.0) -> Interaction:
        """Press a button by id: also one that an out-of-date client still shows."""
        data = {"custom_id": custom_id, "component_type": 2}
        return await self._send(COMPONENT, data, person, message.channel, message=message, age_s=age_s)

    async def submit(self, asked: Interaction, **values: str) -> Interaction:
        """Fill in the modal that answered `asked`, by custom id; fields not named keep their value."""
        components = []
        for label in asked.modal["components"]:
            field = label["component"]
            value = values.pop(field["custom_id"], field.get("value") or "")
            filled = {"type": field["type"], "id": field.get("id", 1), "custom_id": field["custom_id"], "value": value}
            components.append({"type": 18, "id": label.get("id", 1), "component": filled})
        if values:
            raise RefusedError(f"the modal has no field {sorted(values)}")
        data = {"custom_id": asked.modal["custom_id"], "components": components}
        return await self._send(MODAL_SUBMIT, data, asked.person, asked.channel, message=asked.message)

    # -- watching ----------------------------------------------------------------------------------------------------

    async def until(self, claim: Callable[[], object], *, timeout_s: float = 60.0) -> None:
        """Wait until `claim` holds, asking again after every request the bot makes. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: bool(claim()))

    async def notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def requests(self, method: str = "", path: str = "") -> list[Request]:
        return [request for request in self.rest.requests if request.method.startswith(method) and path in request.path]

    def statuses(self) -> set[int]:
        return {request.status for request in self.rest.requests}

    def outgoing_messages(self) -> list[Json]:
        """Return every body sent that makes or changes a message."""
        bodies = []
        for request in self.rest.requests:
            body = request.body
            if request.path.endswith("/callback"):
                if body["type"] in (4, 7):
                    bodies.append(body["data"])
            elif request.method in ("POST", "PATCH"):
                bodies.append(body)
        return bodies

    def fail(self, pattern: str, **fault: Any) -> Fault:
        """Script a fault for requests whose "METHOD /path" matches `pattern`; see `Fault`."""
        scripted = Fault(pattern, **fault)
        self.limits.faults.append(scripted)
        return scripted

    # -- within ------------------------------------------------------------------------------------------------------

    async def _send(
        self,
        type_: int,
        data: Json,
        person: Person,
        channel: Channel,
        *,
        message: Message | None = None,
        age_s: float = 0.0,
    ) -> Interaction:
        interaction = Interaction(
            id=snowflake(age_s),
            token=secrets.token_hex(24),
            type=type_,
            data=data,
            person=person,
            channel=channel,
            message=message,
            sent_at=time.perf_counter(),
        )
        self.interactions[interaction.token] = interaction
        shard_of = channel.guild.id if channel.guild else 0
        await self.gateway.dispatch("INTERACTION_CREATE", self._interaction_json(interaction), shard_of=shard_of)
        return interaction

    def _interaction_json(self, interaction: Interaction) -> Json:
        channel, person, guild = interaction.channel, interaction.person, interaction.channel.guild
        owners = {"0": str(guild.id if guild else 0)} if guild is None or guild.has_bot else {"1": str(person.id)}
        body = {
            "id": str(interaction.id),
            "application_id": str(self.application_id),
            "type": interaction.type,
            "token": interaction.token,
            "version": 1,
            "data": interaction.data,
            "channel": channel.as_json(),
            "channel_id": str(channel.id),
            "app_permissions": str(channel.bot_permissions),
            "attachment_size_limit": 10 << 20,
            "locale": "en-US",
            "entitlements": [],
            "authorizing_integration_owners": owners,
            "context": 0 if guild else 1,
        }
        if interaction.message is not None:
            body["message"] = interaction.message.as_json()
        if guild is None:
            return body | {"user": person.as_user()}
        partial_guild = {"id": str(guild.id), "locale": "en-US", "features": []}
        return body | {"guild_id": str(guild.id), "guild": partial_guild, "member": person.as_member()}

    def _registered(self, name: str) -> Json:
        if name not in self.commands:
            raise RefusedError(f"no command {name!r} is registered; there are {sorted(self.commands)}")
        return self.commands[name]

    def _command_data(self, command: str, values: dict[str, Any], *, checked: bool) -> Json:
        name, *path = command.split()
        definition = self._registered(name)
        data: Json = {"id": definition["id"], "name": name, "type": 1, "options": []}
        level = data
        for part in path:
            definition = next((option for option in definition["options"] if option["name"] == part), None)
            if definition is None:
                raise RefusedError(f"no subcommand {part!r} in {command!r}")
            inner: Json = {"name": part, "type": definition["type"], "options": []}
            level["options"].append(inner)
            level = inner
        known = {option["name"]: option for option in definition.get("options") or []}
        missing = [
            option["name"] for option in known.values() if option.get("required") and option["name"] not in values
        ]
        if checked and (missing or values.keys() - known.keys()):
            raise RefusedError(f"missing options {missing}, unknown {sorted(values.keys() - known.keys())}")
        level["options"] = [self._option(known[name], value, checked=checked) for name, value in values.items()]
        data["resolved"] = self._resolved(values)
        return data

    def _option(self, definition: Json, value: Any, *, checked: bool) -> Json:
        if checked:
            _check_option(definition, value)
        if isinstance(value, Person | Channel):
            value = str(value.id)
        elif definition["type"] == ROLE:
            value = str(value)
        return {"name": definition["name"], "type": definition["type"], "value": value}

    def _resolved(self, values: dict[str, Any]) -> Json:
        resolved: Json = {}
        for value in values.values():
            if isinstance(value, Channel):
                partial = value.as_json() | {"permissions": str(value.bot_permissions)}
                resolved.setdefault("channels", {})[str(value.id)] = partial
            for guild in self.guilds.values():
                if isinstance(value, int) and value in (guild.id, *guild.roles):
                    role = next(role for role in guild.as_json(self.bot)["roles"] if role["id"] == str(value))
                    resolved.setdefault("roles", {})[str(value)] = role
        return resolved

    def _ready(self, session: Session) -> Json:
        return {
            "v": 10,
            "user": self.bot.as_user(),
            "guilds": [{"id": str(guild.id), "unavailable": True} for guild in self._guilds_of(session)],
            "session_id": session.id,
            "resume_gateway_url": self.gateway_url,
            "shard": list(session.shard),
            "application": {"id": str(self.application_id), "flags": 0},
        }

    def _guild_creates(self, session: Session) -> list[Json]:
        return [guild.as_json(self.bot) for guild in self._guilds_of(session)] if session.intents & GUILDS else []

    def _guilds_of(self, session: Session) -> list[Guild]:
        index, count = session.shard
        return [guild for guild in self.guilds.values() if guild.has_bot and (guild.id >> 22) % count == index]


def _check_option(definition: Json, value: Any) -> None:
    """Refuse what Discord's client and server refuse for a registered option."""
    name, type_ = definition["name"], definition["type"]
    expected = {STRING: str, INTEGER: int, BOOLEAN: bool, NUMBER: (int, float)}.get(type_)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and type_ != BOOLEAN)):
        raise RefusedError(f"{name} takes another type, got {value!r}")
    size = len(value) if type_ == STRING else value
    low, high = (f"{end}_{'length' if type_ == STRING else 'value'}" for end in ("min", "max"))
    if type_ in (STRING, INTEGER, NUMBER):
        if definition.get(low) is not None and size < definition[low]:
            raise RefusedError(f"{name} must be at least {definition[low]}, got {size}")
        if size > (definition.get(high) if definition.get(high) is not None else (6000 if type_ == STRING else 2**53)):
            raise RefusedError(f"{name} must be at most {definition.get(high)}, got {size}")
    choices = [choice["value"] for choice in definition.get("choices") or []]
    if choices and value not in choices:
        raise RefusedError(f"{name} must be one of {choices}, got {value!r}")
