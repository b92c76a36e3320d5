"""Discord's REST API v10, as far as a bot with commands and buttons needs it, with its limits and its errors.

Interactions follow https://docs.discord.com/developers/interactions/receiving-and-responding: a callback within 3 s
(10062), only once (40060), a token good for 15 minutes (50027).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .discord_limits import json_response, too_many_requests
from .discord_world import (
    LOADING,
    SEND_MESSAGES,
    VIEW_CHANNEL,
    Channel,
    Interaction,
    Json,
    Message,
    created_at,
    snowflake,
)

if TYPE_CHECKING:
    from .discord import FakeDiscord

ACKNOWLEDGE_S = 3.0
TOKEN_LIFE_S = 15 * 60.0
MOST_FOLLOWUPS = 5  # to one interaction, where people brought the application themselves
PREFIX = "/api/v10"
COMMAND_NAME = re.compile(r"^[-_'\w]{1,32}$")

BODY = web.RequestKey("body", object)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request the bot made and how it was answered."""

    method: str
    path: str
    body: Json
    status: int
    at: float


class ApiError(Exception):
    """Answered as Discord answers: a status, a numbered code and a message."""

    def __init__(self, status: int, code: int, message: str, errors: Json | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message} | ({"errors": errors} if errors else {})


UNKNOWN_CHANNEL = (404, 10003, "Unknown Channel")
UNKNOWN_MESSAGE = (404, 10008, "Unknown Message")
UNKNOWN_WEBHOOK = (404, 10015, "Unknown Webhook")
UNKNOWN_INTERACTION = (404, 10062, "Unknown interaction")
ALREADY_ACKNOWLEDGED = (400, 40060, "Interaction has already been acknowledged.")
MISSING_ACCESS = (403, 50001, "Missing Access")
OTHERS_MESSAGE = (403, 50005, "Cannot edit a message authored by another user")
FOLLOWUPS_SPENT = (400, 40094, "This interaction has hit the maximum number of follow up messages")
EMPTY_MESSAGE = (400, 50006, "Cannot send an empty message")
MISSING_PERMISSIONS = (403, 50013, "Missing Permissions")
ARCHIVED = (400, 50083, "Thread is archived")
INVALID_WEBHOOK_TOKEN = (401, 50027, "Invalid Webhook Token")


class Rest:
    """The routes. State lives in the FakeDiscord it serves."""

    def __init__(self, discord: FakeDiscord) -> None:
        self.discord = discord
        self.requests: list[Request] = []
        self._by_nonce: dict[str, Message] = {}

    def routes(self) -> list[web.RouteDef]:
        webhook, message = "/webhooks/{application}/{token}", "/messages/{message}"
        channel = "/channels/{channel}/messages"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/users/@me", self._get_me),
            ("GET", "/oauth2/applications/@me", self._get_application),
            ("GET", "/gateway/bot", self._get_gateway),
            ("GET", "/applications/{application}/commands", self._get_commands),
            ("PUT", "/applications/{application}/commands", self._put_commands),
            ("POST", "/interactions/{interaction}/{token}/callback", self._callback),
            ("POST", webhook, self._post_followup),
            ("GET", webhook + message, self._get_webhook_message),
            ("PATCH", webhook + message, self._patch_webhook_message),
            ("DELETE", webhook + message, self._delete_webhook_message),
            ("POST", channel, self._post_message),
            ("GET", channel + "/{message}", self._get_message),
            ("PATCH", channel + "/{message}", self._patch_message),
            ("DELETE", channel + "/{message}", self._delete_message),
        ]
        return [web.route(method, PREFIX + path, self._guarded(handler)) for method, path, handler in table]

    def _guarded(self, handler: Handler) -> Handler:
        """Wrap a route in what every route shares: record, faults, the key, the limits, the error's JSON."""

        async def handle(request: web.Request) -> web.StreamResponse:
            at, path = time.perf_counter(), request.path.removeprefix(PREFIX)
            request[BODY] = await _read_body(request)
            fault = self.discord.limits.fault_for(request.method, path)
            if fault is not None and fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            try:
                response = await self._answer(request, handler, fault)
            except ApiError as error:
                response = json_response(error.body, status=error.status)
            if fault is not None and fault.after and fault.status:
                response = json_response({"code": 0, "message": "lost"}, status=fault.status)
            self.requests.append(Request(request.method, path, request[BODY], response.status, at))
            await self.discord.notify()
            return response

        return handle

    async def _answer(self, request: web.Request, handler: Handler, fault: Any) -> web.StreamResponse:
        if fault is not None and fault.status == 429:
            return too_many_requests(fault.retry_after, via=fault.via)
        if fault is not None and fault.status and not fault.after:
            return web.Response(text="upstream connect error", status=fault.status)
        if not request.path.startswith((PREFIX + "/interactions", PREFIX + "/webhooks")):
            if request.headers.get("Authorization") != f"Bot {self.discord.token}":
                raise ApiError(401, 0, "401: Unauthorized")
            if wait_s := self.discord.limits.global_wait_s():
                return too_many_requests(wait_s, is_global=True)
        if request.method == "PATCH" and "messages" in request.path:
            return await self._limited(request, handler)
        return await handler(request)

    async def _limited(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Hold edits to so many in 5 s: for each message of a webhook, for each channel otherwise."""
        info = request.match_info
        key = info["channel"] if "channel" in info else f"{info['token']}/{info['message']}"
        bucket = self.discord.limits.bucket("edit", key, limit=self.discord.limits.edits)
        if wait_s := bucket.take():
            return too_many_requests(wait_s)
        response = await handler(request)
        response.headers.update(bucket.headers())
        return response

    # -- the application ---------------------------------------------------------------------------------------------

    async def _get_me(self, _: web.Request) -> web.Response:
        return json_response(self.discord.bot.as_user())

    async def _get_application(self, _: web.Request) -> web.Response:
        discord = self.discord
        owner = {"id": "1", "username": "owner", "discriminator": "0", "avatar": None}
        body = {"id": str(discord.application_id), "name": discord.bot.name, "description": "", "icon": None}
        return json_response(
            body | {"bot_public": True, "bot_require_code_grant": False, "verify_key": "", "flags": 0, "owner": owner}
        )

    async def _get_gateway(self, _: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
        body = {"url": self.discord.gateway_url, "shards": self.discord.shards, "session_start_limit": limit}
        return json_response(body)

    async def _get_commands(self, _: web.Request) -> web.Response:
        return json_response(list(self.discord.commands.values()))

    async def _put_commands(self, request: web.Request) -> web.Response:
        commands = request[BODY]
        errors = {str(index): problem for index, command in enumerate(commands) if (problem := _check_command(command))}
        if errors:
            raise ApiError(400, 50035, "Invalid Form Body", errors)
        application_id = str(self.discord.application_id)
        common = {
            "application_id": application_id,
            "version": "1",
            "default_member_permissions": None,
            "description": "",
        }
        self.discord.commands = {
            command["name"]: common | {"default_member_permissions": None} | command | {"id": str(snowflake())}
            for command in commands
        }
        return json_response(list(self.discord.commands.values()))

    # -- interactions ------------------------------------------------------------------------------------------------

    async def _callback(self, request: web.Request) -> web.Response:
        interaction = self.discord.interactions.get(request.match_info["token"])
        if interaction is None or str(interaction.id) != request.match_info["interaction"]:
            raise ApiError(*UNKNOWN_INTERACTION)
        waited_s = time.perf_counter() - interaction.sent_at
        if interaction.response is not None:
            raise ApiError(*ALREADY_ACKNOWLEDGED)
        if waited_s > ACKNOWLEDGE_S:
            raise ApiError(*UNKNOWN_INTERACTION)
        body = request[BODY]
        message = await self._respond(interaction, body)
        interaction.response, interaction.acknowledged_after_s = body, waited_s
        interaction.acknowledged.set()
        if request.query.get("with_response") not in ("1", "true"):
            return web.Response(status=204)
        return json_response(_callback_body(interaction, body["type"], message))

    async def _respond(self, interaction: Interaction, body: Json) -> Message | None:
        kind, data = body["type"], body.get("data") or {}
        allowed = {2: (4, 5, 9), 3: (4, 5, 6, 7, 9), 4: (8,), 5: (4, 5, 6, 7)}[interaction.type]
        if kind not in allowed or (kind in (6, 7) and interaction.message is None):
            raise ApiError(400, 50035, f"Invalid Form Body: type {kind} cannot answer {interaction.type}")
        if kind in (4, 5):
            message = self._new_message(interaction.channel, interaction.token, data, is_loading=kind == 5)
            interaction.original = message
            await self.discord.announce("MESSAGE_CREATE", message)
            return message
        if kind in (6, 7):
            interaction.original = interaction.message
        if kind == 7 and interaction.message is not None:
            _check_message(data, partly=True)
            await self._change(interaction.message, data)
            return interaction.message
        if kind == 9:
            _check_modal(data)
        return None

    def _webhook(self, request: web.Request) -> Interaction:
        """Find the interaction whose token is in the path; Discord's errors for a wrong or an old one."""
        interaction = self.discord.interactions.get(request.match_info["token"])
        if interaction is None or request.match_info["application"] != str(self.discord.application_id):
            raise ApiError(*UNKNOWN_WEBHOOK)
        if interaction.response is None:
            raise ApiError(*UNKNOWN_WEBHOOK)
        if time.time() - created_at(interaction.id) > TOKEN_LIFE_S:
            raise ApiError(*INVALID_WEBHOOK_TOKEN)
        return interaction

    def _webhook_message(self, request: web.Request) -> Message:
        interaction = self._webhook(request)
        wanted = request.match_info["message"]
        mine = [interaction.original] if wanted == "@original" else [interaction.original, *interaction.followups]
        for message in mine:
            is_wanted = message is not None and wanted in ("@original", str(message.id))
            if message is not None and is_wanted and not message.is_deleted:
                return message
        raise ApiError(*UNKNOWN_MESSAGE)

    async def _post_followup(self, request: web.Request) -> web.Response:
        interaction, data = self._webhook(request), request[BODY]
        original = interaction.original
        if original is not None and original.is_loading and not original.is_deleted:
            _check_message(data)
            await self._change(original, data)
            return json_response(original.as_json())
        guild = interaction.channel.guild
        if guild is not None and not guild.has_bot and len(interaction.followups) == MOST_FOLLOWUPS:
            raise ApiError(*FOLLOWUPS_SPENT)
        message = self._new_message(interaction.channel, interaction.token, data)
        interaction.followups.append(message)
        await self.discord.announce("MESSAGE_CREATE", message)
        return json_response(message.as_json())

    async def _get_webhook_message(self, request: web.Request) -> web.Response:
        return json_response(self._webhook_message(request).as_json())

    async def _patch_webhook_message(self, request: web.Request) -> web.Response:
        message, data = self._webhook_message(request), request[BODY]
        _check_message(data, partly=True)
        await self._change(message, data)
        return json_response(message.as_json())

    async def _delete_webhook_message(self, request: web.Request) -> web.Response:
        await self.discord.delete(self._webhook_message(request))
        return web.Response(status=204)

    # -- messages of a channel ---------------------------------------------------------------------------------------

    def _channel(self, request: web.Request) -> Channel:
        channel = self.discord.channels.get(int(request.match_info["channel"]))
        if channel is None:
            raise ApiError(*UNKNOWN_CHANNEL)
        is_member = channel.guild is None or channel.guild.has_bot
        if not is_member or not channel.bot_permissions & VIEW_CHANNEL:
            raise ApiError(*MISSING_ACCESS)
        return channel

    def _channel_message(self, request: web.Request) -> Message:
        channel = self._channel(request)
        message = self.discord.messages.get(int(request.match_info["message"]))
        if message is None or message.channel is not channel or message.is_deleted or message.is_ephemeral:
            raise ApiError(*UNKNOWN_MESSAGE)
        return message

    async def _post_message(self, request: web.Request) -> web.Response:
        channel = self._channel(request)
        if channel.is_archived:
            raise ApiError(*ARCHIVED)
        if not channel.bot_permissions & SEND_MESSAGES:
            raise ApiError(*MISSING_PERMISSIONS)
        nonce = request[BODY].get("nonce") if request[BODY].get("enforce_nonce") else None
        if nonce is not None and (known := self._by_nonce.get(nonce)):
            return json_response(known.as_json())
        message = self._new_message(channel, None, request[BODY])
        if nonce is not None:
            self._by_nonce[nonce] = message
        await self.discord.announce("MESSAGE_CREATE", message)
        return json_response(message.as_json())

    async def _get_message(self, request: web.Request) -> web.Response:
        return json_response(self._channel_message(request).as_json())

    async def _patch_message(self, request: web.Request) -> web.Response:
        message, data = self._channel_message(request), request[BODY]
        if message.channel.is_archived:
            raise ApiError(*ARCHIVED)
        if message.author is not self.discord.bot:
            raise ApiError(*OTHERS_MESSAGE)
        _check_message(data, partly=True)
        await self._change(message, data)
        return json_response(message.as_json())

    async def _delete_message(self, request: web.Request) -> web.Response:
        await self.discord.delete(self._channel_message(request))
        return web.Response(status=204)

    def _new_message(self, channel: Channel, token: str | None, data: Json, *, is_loading: bool = False) -> Message:
        if not is_loading:
            _check_message(data)
        flags = data.get("flags", 0) | (LOADING if is_loading else 0)
        message = Message(channel=channel, author=self.discord.bot, flags=flags, token=token)
        _fill(message, data)
        self.discord.messages[message.id] = message
        return message

    async def _change(self, message: Message, data: Json) -> None:
        message.flags = message.flags & ~LOADING
        _fill(message, data)
        message.edited_at.append(time.perf_counter())
        await self.discord.announce("MESSAGE_UPDATE", message)


async def _read_body(request: web.Request) -> Any:
    """Read JSON, or a form with `payload_json` and files, the files' bytes under "files"."""
    if request.content_type == "multipart/form-data":
        form = await request.post()
        body = json.loads(str(form["payload_json"]))
        uploads = [value for value in form.values() if isinstance(value, web.FileField)]
        body.setdefault("data", body)["files"] = {upload.filename: upload.file.read() for upload in uploads}
        return {key: value for key, value in body.items() if value is not body}
    text = await request.text()
    if not text:
        return {}
    if request.headers.get("Content-Type") != "application/json":
        raise web.HTTPBadRequest(text="expected Content-Type application/json")
    return json.loads(text)


def _fill(message: Message, data: Json) -> None:
    if "content" in data:
        message.content = (data["content"] or "").strip()  # Discord trims what it is sent
        message.history.append(message.content)
    for name in ("embeds", "components"):
        if name in data:
            setattr(message, name, data[name] or [])
    if files := data.get("files"):
        message.files = files
        message.attachments = [_attachment(name, content) for name, content in files.items()]
    elif "attachments" in data:
        message.attachments = data["attachments"] or []


def _attachment(name: str, content: bytes) -> Json:
    url = f"https://cdn.invalid/{name}"
    return {"id": str(snowflake()), "filename": name, "size": len(content), "url": url, "proxy_url": url}


def _callback_body(interaction: Interaction, kind: int, message: Message | None) -> Json:
    body: Json = {"interaction": {"id": str(interaction.id), "type": interaction.type}}
    if message is not None:
        body["interaction"] |= {
            "response_message_id": str(message.id),
            "response_message_loading": message.is_loading,
            "response_message_ephemeral": message.is_ephemeral,
        }
        body["resource"] = {"type": kind, "message": message.as_json()}
    return body


# -- what Discord refuses --------------------------------------------------------------------------------------------


def _refuse(where: str, message: str) -> None:
    raise ApiError(400, 50035, "Invalid Form Body", {where: {"_errors": [{"code": "BASE_TYPE", "message": message}]}})


def _check_message(data: Json, *, partly: bool = False) -> None:
    content = data.get("content") or ""
    if len(content) > 2000:
        _refuse("content", "Must be 2000 or fewer in length.")
    if not partly and not (content.strip() or data.get("embeds") or data.get("components") or data.get("files")):
        raise ApiError(*EMPTY_MESSAGE)
    if len(data.get("embeds") or []) > 10:
        _refuse("embeds", "Must be 10 or fewer in length.")
    rows = data.get("components") or []
    if len(rows) > 5 or any(len(row.get("components", [])) > 5 for row in rows):
        _refuse("components", "Must be 5 or fewer in length.")
    ids = [item["custom_id"] for item in _components(rows) if "custom_id" in item]
    if len(ids) != len(set(ids)):
        _refuse("components", "Component custom id cannot be duplicated")
    _check_components(rows)


def _check_modal(data: Json) -> None:
    if not 1 <= len(data["title"]) <= 45:
        _refuse("title", "Must be between 1 and 45 in length.")
    if not 1 <= len(data["components"]) <= 5:
        _refuse("components", "Must be between 1 and 5 in length.")
    _check_components(data["components"])


def _components(items: list[Json]) -> Iterator[Json]:
    for item in items:
        yield item
        yield from _components(item.get("components", []))
        if "component" in item:
            yield from _components([item["component"]])


def _check_components(items: list[Json]) -> None:
    for item in _components(items):
        if len(item.get("custom_id", "x")) not in range(1, 101):
            _refuse("custom_id", "Must be between 1 and 100 in length.")
        if item["type"] == 2 and len(item.get("label") or "x") > 80:
            _refuse("label", "Must be 80 or fewer in length.")
        if item["type"] == 18 and len(item["label"]) > 45:
            _refuse("label", "Must be 45 or fewer in length.")
        if item["type"] == 18 and len(item.get("description") or "") > 100:
            _refuse("description", "Must be 100 or fewer in length.")
        if item["type"] == 4 and len(item.get("value") or "") > (item.get("max_length") or 4000):
            _refuse("value", "Must be max_length or fewer in length.")


def _check_command(command: Json, depth: int = 0) -> Json | None:
    """Name the first thing Discord would refuse in a command, its groups or its options."""
    is_menu = command.get("type", 1) in (2, 3) and depth == 0
    if not 1 <= len(command["name"]) <= 32 or not (is_menu or COMMAND_NAME.match(command["name"])):
        return {"name": f"{command['name']!r} is no command name"}
    if not is_menu and (command["name"] != command["name"].lower() or not 1 <= len(command["description"]) <= 100):
        return {"description": f"{command['name']} must have a description of 1 to 100 characters"}
    options = command.get("options") or []
    if len(options) > 25 or len(command.get("choices") or []) > 25:
        return {"options": f"{command['name']} has more than 25"}
    required = [option.get("required", False) for option in options if option["type"] > 2]
    if required != sorted(required, reverse=True):
        return {"options": f"{command['name']} must name required options first"}
    low, high = command.get("min_value"), command.get("max_value")
    if any(bound is not None and abs(bound) > 2**53 for bound in (low, high)):
        return {"max_value": f"{command['name']} must stay within ±2^53"}
    return next((problem for option in options if (problem := _check_command(option, depth + 1))), None)
