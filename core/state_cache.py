"""Recurrent states by token prefix, least recently used out, bounded in bytes.

A state is the whole memory of a stream after some tokens. Continuing, retrying, branching and undoing all start from
the nearest cached state at or before the wanted prefix and replay only what follows. Knows nothing of slots or text.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ENTRY_OVERHEAD_BYTES = 400  # what Python adds to each array: key, dictionary entries, array header


class PrefixHash:
    """The digest of a growing run of tokens; every digest on the way costs only the tokens since the last."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.length = 0

    def extend(self, tokens: Sequence[int], length: int) -> bytes:
        """The digest of tokens[:length], which must start with the tokens hashed before."""
        self._hash.update(np.asarray(tokens[self.length : length], dtype=np.int32).tobytes())
        self.length = length
        return self._hash.copy().digest()


class StateCache:
    """Maps token prefixes to the state after them. Not thread-safe: the engine's worker owns it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[int, NDArray[np.float32]]] = OrderedDict()
        self._lengths: Counter[int] = Counter()  # lengths worth asking for
        self.size_bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, digest: bytes, length: int, state: NDArray[np.float32]) -> None:
        """Keep the state after a prefix of `length` tokens."""
        if self.touch(digest) or state.nbytes + _ENTRY_OVERHEAD_BYTES > self._max_bytes:
            return
        self._entries[digest] = length, state
        self._lengths[length] += 1
        self.size_bytes += state.nbytes + _ENTRY_OVERHEAD_BYTES
        while self.size_bytes > self._max_bytes:
            self._drop_oldest()

    def touch(self, digest: bytes) -> bool:
        """Whether the state after this prefix is cached; if so, it counts as just used."""
        if digest not in self._entries:
            return False
        self._entries.move_to_end(digest)
        return True

    def longest(self, tokens: Sequence[int], limit: int) -> tuple[int, NDArray[np.float32]] | None:
        """The state after the longest cached prefix of at most `limit` tokens, and that prefix's length."""
        prefix = PrefixHash()
        found: bytes | None = None
        for length in sorted(length for length in self._lengths if length <= limit):
            digest = prefix.extend(tokens, length)
            if digest in self._entries:
                found = digest
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self.touch(found)
        return self._entries[found]

    def _drop_oldest(self) -> None:
        _, (length, state) = self._entries.popitem(last=False)
        self.size_bytes -= state.nbytes + _ENTRY_OVERHEAD_BYTES
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]
