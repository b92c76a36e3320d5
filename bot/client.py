"""The client: everything it needs is handed to it, ready; it wires commands, buttons and forms to the storyteller."""

import asyncio
import logging
from typing import Any

import discord
from discord import app_commands

from core.checkpoint import CARD
from core.engines import Engines
from core.errors import StoreError
from core.requests import Limits, SamplingDefaults
from core.store import Store
from core.writer import Writer

from . import settings_modal
from .buttons import StoryButton
from .command_sync import sync_if_changed
from .commands import Decision, all_commands
from .replies import NO_MENTIONS, RefusedError, explain
from .settings import BotSettings
from .storyteller import Storyteller

log = logging.getLogger(__name__)


class Fablewright(discord.AutoShardedClient):
    """The bot. It asks for the least intent that works: servers and channels, no messages."""

    def __init__(
        self,
        *,
        store: Store,
        engines: Engines,
        writer: Writer,
        settings: BotSettings,
        defaults: SamplingDefaults,
        limits: Limits,
    ) -> None:
        super().__init__(
            intents=discord.Intents(guilds=True),
            allowed_mentions=NO_MENTIONS,
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
        )
        self.store, self.engines = store, engines
        self.settings, self.defaults = settings, defaults
        self.storyteller = Storyteller(
            self,
            writer=writer,
            store=store,
            settings=settings,
            defaults=defaults,
            limits=limits,
            copied_share=self._copied_share,
        )
        self.tree = _Tree(
            self,
            allowed_installs=app_commands.AppInstallationType(guild=True, user=True),
            allowed_contexts=app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=True),
        )
        self._recovering: asyncio.Task[None] | None = None

    async def setup_hook(self) -> None:
        """Prepare between logging in and connecting. Raises RefusedError where another bot has this token."""
        await self._refuse_a_second_one()
        self.add_dynamic_items(StoryButton, Decision)
        for command in all_commands(self.settings):
            self.tree.add_command(command)
        await sync_if_changed(self.tree, self.store)
        self._recovering = asyncio.create_task(self.storyteller.recover(), name="recover")

    async def _refuse_a_second_one(self) -> None:
        """Both would answer every command, and each would take the other's running stories for lost ones."""
        other = await self.store.log.claim(f"discord_bot_{self.application_id}")
        if other is not None:
            raise RefusedError(
                f"a bot with this DISCORD_TOKEN runs already, as process {other.pid} on {other.host}: stop that one, "
                "or make an application with a token of its own for this one; if its machine was lost, wait a minute"
            )

    async def on_ready(self) -> None:
        log.info("ready user=%s servers=%d shards=%s", self.user, len(self.guilds), self.shard_count)

    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        """Take filled-in forms: discord.py would know only those it has shown since it started."""
        if interaction.type is discord.InteractionType.modal_submit:
            await settings_modal.answer(interaction, self.storyteller)

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Forget the rules of a server that the bot has left; an outage is another event."""
        try:
            await self.store.settings.reset("guild", self.store.opaque.key("guild", guild.id))
        except StoreError as error:
            log.error("the rules of a server that was left are kept error=%s", error)

    async def close(self) -> None:
        """Interrupt what is being written, show so, and leave."""
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.wait({self._recovering})
        await self.storyteller.close()
        await super().close()

    def checkpoint_names(self) -> list[str]:
        """Return the models to choose from."""
        return sorted(self.engines.names())

    async def checkpoint_for(self, interaction: discord.Interaction[Any]) -> str:
        """Return the name of the model that writes where the interaction came from."""
        return (await self.storyteller.server_rules(interaction)).checkpoint or self.engines.default_name

    def model_card(self, name: str) -> str:
        """Return the text of a model's card. Reads a file: call it in a thread."""
        card = self.engines.path(name) / CARD
        return card.read_text(encoding="utf-8") if card.exists() else f"The model {name} has no card."

    async def _copied_share(self, name: str | None, text: str) -> float | None:
        """Return how much of a text stands in the books its model learnt from; None where that is not known."""
        novelty = (await self.engines.get(name)).checkpoint.novelty
        return None if novelty is None else (await asyncio.to_thread(novelty.copied, text)).share


class _Tree(app_commands.CommandTree[Fablewright]):
    """Explains every error to the person who met it."""

    async def on_error(
        self, interaction: discord.Interaction[Fablewright], error: app_commands.AppCommandError, /
    ) -> None:
        if interaction.type is discord.InteractionType.application_command:
            await explain(interaction, error)
        else:
            log.warning("autocomplete failed error=%s", error)
