"""`python -m migrations [--down-to REVISION]`: brings the database of config.toml, or of DATABASE_URL, up to date."""

import argparse
import asyncio
import sys

from core.config import Config
from core.errors import FablewrightError
from core.store import Database, DatabaseSettings

from . import downgrade, upgrade


def main() -> int:
    """Return the exit code: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m migrations", description="Bring the database up to date.")
    parser.add_argument("--down-to", metavar="REVISION", help="go back instead; what newer tables held is lost")
    asked = parser.parse_args()
    try:
        settings = DatabaseSettings.read(Config())
        asyncio.run(downgrade(settings, asked.down_to) if asked.down_to else upgrade(settings))
    except FablewrightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{Database(settings)} is at {asked.down_to or 'the newest revision'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
