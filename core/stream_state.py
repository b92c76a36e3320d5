"""A stream's whole memory as a few kilobytes: what a story needs to go on next week, or on another machine.

The recurrent state after all tokens but the last, the last tokens themselves (repetition_penalty looks back on them,
an unfinished character is completed from them) and how many came before (the seeded draw counts from the story's
start). A fingerprint ties it to the checkpoint and precision that made it. Nothing is unpickled.
"""

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

_MAGIC = b"FWS2"
_HEADER = struct.Struct("<4s16sQII")  # magic, fingerprint, tokens before, recent tokens, floats
_CHECKSUM_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """`state` stands after all tokens but the last of `recent`, which is still to be read."""

    offset: int  # tokens of the story before `recent`
    recent: tuple[int, ...]
    state: NDArray[np.float32]

    def pack(self, fingerprint: bytes) -> bytes:
        """As bytes, for a database or a file."""
        head = _HEADER.pack(_MAGIC, fingerprint, self.offset, len(self.recent), self.state.size)
        body = head + np.asarray(self.recent, dtype="<u4").tobytes() + self.state.astype("<f4").tobytes()
        return body + _checksum(body)

    @classmethod
    def unpack(cls, data: bytes, *, fingerprint: bytes, state_size: int, vocab_size: int) -> "StreamState":
        """Read what `pack` gave. Raises InputError where it is damaged or belongs to another checkpoint."""
        body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if len(body) < _HEADER.size or not body.startswith(_MAGIC) or _checksum(body) != checksum:
            raise InputError("state must be an exported stream state, got something else or a damaged one", "state")
        _, made_by, offset, count, size = _HEADER.unpack_from(body)
        if made_by != fingerprint:
            message = "state must come from this checkpoint at this precision, got another's; send the text instead"
            raise InputError(message, "state")
        if len(body) != _HEADER.size + 4 * (count + size) or size != state_size or count == 0:
            raise InputError(f"state must hold {state_size} numbers, got {size}", "state")
        recent = np.frombuffer(body, "<u4", count, _HEADER.size)
        state = np.frombuffer(body, "<f4", size, _HEADER.size + 4 * count).astype(np.float32)
        if recent.max() >= vocab_size or not np.isfinite(state).all():
            raise InputError("state must hold finite numbers and known tokens, got others", "state")
        return cls(offset=offset, recent=tuple(recent.tolist()), state=state)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).digest()
