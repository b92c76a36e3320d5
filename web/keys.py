"""`python -m web keys`: the owner's side of API keys."""

import sys

import migrations
from core.config import Config
from core.store import ApiKeys, Database, DatabaseSettings


async def make_key(config: Config, name: str) -> None:
    """Make a key and show it, once: only its digest is kept."""
    async with await _database(config) as database:
        row, key = await ApiKeys(database).make(name)
    print(key)
    print(f"made key {row.id} for {row.name}; it cannot be shown again", file=sys.stderr)


async def list_keys(config: Config) -> None:
    """List every key that was ever made."""
    async with await _database(config) as database:
        for row in await ApiKeys(database).all():
            state = f"revoked {row.revoked_at:%Y-%m-%d}" if row.revoked_at else "open"
            print(f"{row.id}  made {row.created_at:%Y-%m-%d}  {state:18}  {row.name}")


async def revoke_key(config: Config, key_id: str) -> int:
    """Close a key; servers that run refuse it within ten seconds."""
    async with await _database(config) as database:
        is_revoked = await ApiKeys(database).revoke(key_id)
    if not is_revoked:
        print(f"error: there is no open key {key_id}; see `python -m web keys list`", file=sys.stderr)
        return 1
    print(f"revoked key {key_id}")
    return 0


async def _database(config: Config) -> Database:
    settings = DatabaseSettings.read(config)
    await migrations.upgrade(settings)
    return Database(settings)
