"""Tells Discord about the commands, only when they changed: Discord allows few such messages a day."""

import hashlib
import json
import logging
from typing import Any

from discord import app_commands

from core.errors import StoreError
from core.store import Store

log = logging.getLogger(__name__)


async def sync_if_changed(tree: app_commands.CommandTree[Any], store: Store) -> bool:
    """Send the commands unless the store remembers that this application has these already; True when sent."""
    commands = sorted((command.to_dict(tree) for command in tree.get_commands()), key=lambda command: command["name"])
    digest = hashlib.sha256(json.dumps(commands, sort_keys=True, default=str).encode()).hexdigest()
    name = f"discord_commands_{tree.client.application_id}"
    if await _known(store, name) == digest:
        return False
    await tree.sync()
    log.info("commands sent to Discord count=%d", len(commands))
    try:
        await store.facts.set(name, digest)
    except StoreError as error:
        log.warning("the commands will be sent again at the next start error=%s", error)
    return True


async def _known(store: Store, name: str) -> str | None:
    try:
        return await store.facts.get(name)
    except StoreError:
        return None
