"""API keys: made once, shown once, kept only as a digest.

A key has 256 random bits, so a plain SHA-256 is right: slow, salted hashes protect passwords that people choose, and
nobody can try 2**256 keys. The digest is looked up by an index, so no secret is ever compared character by character.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from ..errors import InputError, StoreError
from ..tables import ApiKey
from .batched import Batched
from .database import Database

PREFIX = "fw-"  # lets people and secret scanners know one when they see it

_FRESH_S = 10.0  # a key revoked by another process is refused after this


class ApiKeys:
    """The keys that open the web border."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._query = Batched(self._load)
        self._seen: dict[str, tuple[float, ApiKey]] = {}  # digests of keys found good

    async def make(self, name: str) -> tuple[ApiKey, str]:
        """Return a new key's row and the key itself, which cannot be had again."""
        if not name.strip() or len(name) > 255:
            raise InputError(f"a key's name must have 1 to 255 characters, got {len(name.strip())}", "name")
        if not name.isprintable():  # it is shown in a terminal, a line each
            raise InputError(f"a key's name must have no control characters, got {name!r}", "name")
        key = PREFIX + secrets.token_urlsafe(32)
        row = ApiKey(
            id=secrets.token_hex(4), name=name, digest=_digest(key), created_at=datetime.now(UTC), revoked_at=None
        )
        async with self._database.write() as session:
            session.add(row)
        return row, key

    async def all(self) -> Sequence[ApiKey]:
        """Return every key ever made, the oldest first."""
        async with self._database.read() as session:
            return (await session.scalars(sa.select(ApiKey).order_by(ApiKey.created_at))).all()

    async def revoke(self, key_id: str) -> bool:
        """Close a key for good; False when there was no open one of that id."""
        change = sa.update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        async with self._database.write() as session:
            revoked = await session.execute(change.values(revoked_at=datetime.now(UTC)).returning(ApiKey.digest))
            digest = revoked.scalar()
        self._seen.pop(digest or "", None)
        return digest is not None

    async def find(self, key: str) -> ApiKey | None:
        """Return the row of an open key, or None. While the database is away, keys seen before go on working."""
        digest = _digest(key)
        seen = self._seen.get(digest)
        if seen and time.monotonic() - seen[0] < _FRESH_S:
            return seen[1]
        try:
            row = await self._query.ask(digest)
        except StoreError:
            if seen is None:
                raise
            return seen[1]
        if row is None:
            self._seen.pop(digest, None)
        else:
            self._seen[digest] = (time.monotonic(), row)
        return row

    async def _load(self, digests: list[str]) -> dict[str, ApiKey | None]:
        query = sa.select(ApiKey).where(ApiKey.digest.in_(digests), ApiKey.revoked_at.is_(None))
        async with self._database.read() as session:
            found = {row.digest: row for row in await session.scalars(query)}
        return {digest: found.get(digest) for digest in digests}


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()  # headers may hold any bytes
