"""The bot's commands, one file an idea."""

from typing import Any

from discord import app_commands

from ..settings import BotSettings
from .about import about
from .my_data import Decision, my_data
from .privacy import privacy
from .server_settings import server_settings
from .settings import user_settings
from .write import continue_this, write_command

__all__ = ["Decision", "all_commands"]

AnyCommand = app_commands.Command[Any, ..., Any] | app_commands.ContextMenu | app_commands.Group


def all_commands(settings: BotSettings) -> list[AnyCommand]:
    """Make every command; their ranges follow config.toml."""
    return [
        write_command(settings.longest),
        continue_this,
        user_settings(settings.longest),
        server_settings(settings),
        about,
        privacy,
        my_data,
    ]
