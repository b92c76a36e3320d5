"""`python -m bot`: opens everything the bot needs, connects it to Discord, and closes it all in order."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
import discord

import migrations
from core.config import Config
from core.errors import ConfigError, FablewrightError
from core.requests import Limits, SamplingDefaults
from core.store import DatabaseSettings, Store

from .settings import TOKEN, Addresses, BotSettings

if TYPE_CHECKING:
    from .client import Fablewright

AUTHENTICATION_FAILED = 4004  # why Discord ends a connection whose token was reset

log = logging.getLogger(__name__)

GUIDANCE = f"""\
{TOKEN} is not set. The bot needs the token of a Discord application:
  1. Open https://discord.com/developers/applications, press New Application, then open its page Bot.
  2. Press Reset Token and copy the token. It is a secret: it goes into the environment, into no file of this project.
  3. Run: {TOKEN}=your-token make bot
docs/discord.md goes on from there, to the link that adds the bot to a server."""
REFUSED = (
    f"Discord refused the token in {TOKEN}. Reset it at https://discord.com/developers/applications and try again."
)


def main() -> int:
    """Run the bot until it is told to stop; 2 where it lacks what it needs to start."""
    argparse.ArgumentParser(prog="python -m bot", description=__doc__.split("\n")[0]).parse_args()
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        print(GUIDANCE, file=sys.stderr)
        return 2
    if not token.isascii() or any(character.isspace() for character in token):
        print(f"{TOKEN} must be one word of plain characters: copy the token again", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        Addresses.read().apply()
        asyncio.run(run(token))
    except discord.LoginFailure:
        print(REFUSED, file=sys.stderr)
        return 2
    except discord.ConnectionClosed as error:
        has_lost_token = error.code == AUTHENTICATION_FAILED
        print(REFUSED if has_lost_token else f"Discord ended the connection: {error}", file=sys.stderr)
        return 2 if has_lost_token else 1
    except discord.HTTPException as error:
        print(f"Discord answered {error}; nothing was changed, try again later", file=sys.stderr)
        return 1
    except aiohttp.ClientConnectionError as error:
        print(f"cannot reach Discord: {error}; nothing was changed, try again when it answers", file=sys.stderr)
        return 1
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except FablewrightError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before `run` listens for it
        return 130
    except asyncio.CancelledError:
        return 0  # a signal stopped it
    return 0


async def run(token: str) -> None:
    """Run the bot until a signal cancels this task, also while it starts; whatever is open then closes in order."""
    running = asyncio.current_task()
    assert running is not None

    def stop() -> None:
        if not running.cancelling():  # a second signal must not break off the closing
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    async with opened(Config()) as client:
        await client.start(token)


@contextlib.asynccontextmanager
async def opened(config: Config) -> "AsyncIterator[Fablewright]":
    """Open store, engines and writer, and give a client among them that is not connected yet."""
    from core.engine import EngineSettings  # these load torch, which bad input need not wait for
    from core.engines import CheckpointSettings, Engines
    from core.writer import Writer

    from .client import Fablewright

    settings = config.table("bot", BotSettings)
    defaults, limits = config.table("sampling", SamplingDefaults), config.table("limits", Limits)
    checkpoints = config.table("checkpoint", CheckpointSettings)
    engine_settings = config.table("engine", EngineSettings)
    await migrations.upgrade(DatabaseSettings.read(config))
    async with Store.open(config) as store, Engines(checkpoints, engine_settings, limits) as engines:
        await engines.get()  # a checkpoint that cannot be used is told now, not to the first who writes
        async with Fablewright(
            store=store,
            engines=engines,
            writer=Writer(engines, store),
            settings=settings,
            defaults=defaults,
            limits=limits,
        ) as client:
            yield client


if __name__ == "__main__":
    sys.exit(main())
