"""Opaque keys: a person's or a server's id becomes an HMAC, so that the database alone does not say who wrote what.

The secret comes from FABLEWRIGHT_USER_KEY_SECRET or is made at the first start and kept beside the database, readable
by its owner alone. The database remembers the secret's fingerprint: with another secret nobody would find, export or
delete what was kept before, so that is refused.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Self

from ..errors import ConfigError, StoreError
from .database import Database
from .facts import Facts

VARIABLE = "FABLEWRIGHT_USER_KEY_SECRET"
FILE = "user-key.secret"

_SHORTEST = 16  # characters: less could be found by trying


class OpaqueKeys:
    """Makes keys from ids."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    async def load(cls, database: Database) -> Self:
        """Find or make the secret. Raises ConfigError when it is not the one that this database was written with."""
        given = os.environ.get(VARIABLE)
        path = database.folder / FILE
        keys = cls(_check(given, VARIABLE) if given else _read_or_make(path))
        known = await Facts(database).settle("user_key_fingerprint", keys._fingerprint())
        if known != keys._fingerprint():
            raise ConfigError(
                f"the secret of user keys in {VARIABLE if given else path} is not the one that the database was "
                "written with: restore that one (docs/privacy.md says how to go on without it)"
            )
        return keys

    def key(self, kind: str, identity: str | int) -> str:
        """Return the key of an id; `kind` keeps a user and a guild of the same number apart."""
        named = f"{kind}:{identity}".encode("utf-8", "surrogatepass")  # a cookie may hold any bytes
        return hmac.new(self._secret, named, hashlib.sha256).hexdigest()

    def _fingerprint(self) -> str:
        return self.key("fingerprint", "")[:16]


def _read_or_make(path: Path) -> str:
    try:
        if not path.exists():
            _make(path)
        return _check(path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read or make the secret of user keys: {error}") from error


def _make(path: Path) -> None:
    """Make the file whole or not at all: processes that start together must agree on one secret."""
    draft = path.with_suffix(f".{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first
    finally:
        draft.unlink()


def _check(secret: str, where: str) -> str:
    if len(secret) < _SHORTEST:
        raise ConfigError(f"{where} must hold at least {_SHORTEST} characters, got {len(secret)}")
    return secret
