"""One generation in flight, as the engine's worker sees it: its tokens, its text, its pace and its reader.

Text is held back while it could still become a stop string or is half a character. Knows nothing of batches, threads
or event loops.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .neural_cache import NeuralCache
from .requests import Event, Finished, FinishReason, GenerationRequest, Started, Text, TokenLogprob
from .sampling import PENALTY_WINDOW, Draw, uniforms
from .state_cache import PrefixHash
from .stream_state import StreamState
from .tokenizer import IncrementalDecoder, Tokenizer

UNREAD_TOKENS = 512  # a stream whose reader is further behind pauses
_UNIFORMS = 64  # numbers drawn ahead at once: one numpy call in 64 tokens
_LONGEST_CHARACTER = 4  # bytes of UTF-8, so tokens at most


class TextWriter:
    """Turns ids into text that may be shown: whole characters, and never any part of a stop string."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self.decoder = IncrementalDecoder(tokenizer)
        self.stops = stops
        self._held = ""
        self.is_stopped = False
        self.skips_space = False  # the text begins with a space that the prompt has already

    def push(self, ids: Sequence[int]) -> str:
        """The text that may be shown now that these ids have come."""
        text = self.decoder.push_all(ids)
        if self.skips_space and text:
            text, self.skips_space = text[1:], False
        return self._release(text) if self.stops else text

    def flush(self) -> str:
        """What is left to show at the end, when nothing can complete a stop string any more."""
        if self.is_stopped:
            return ""
        text = self._release(self.decoder.flush()) if self.stops else self.decoder.flush()
        text, self._held = text + self._held, ""
        return text

    def _release(self, text: str) -> str:
        text = self._held + text
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            self.is_stopped, self._held = True, ""
            return text[: min(places)]
        held = max(_overlap(text, stop) for stop in self.stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(slots=True, eq=False)
class Stream:
    """A request with everything that happens to it. The worker owns it; the fields marked `reader` belong to the other
    side, which only ever sets them."""

    request: GenerationRequest
    restored: StreamState | None
    writer: TextWriter
    over: FinishReason | None = None  # read everything, write nothing: the text is whole, or only the state is wanted
    tokens: list[int] = field(default_factory=list)  # prompt and text; after a restore its last tokens and what follows
    fed: int = 0  # how many of `tokens` the network has read
    offset: int = 0  # how many tokens of the story came before `tokens`
    created_at: float = field(default_factory=time.monotonic)
    prompt_tokens: int = 0
    begins_with_space: bool = False  # the first new token must: see Tokenizer.encode_prompt
    generated: int = 0
    slot: int = -1
    started_at: float = 0.0
    first_token_at: float | None = None
    due_at: float = 0.0
    flushed_at: float = 0.0
    final_state: NDArray[np.float32] | None = None
    cache: NeuralCache | None = None  # made with the slot, where cache_strength asks for it
    prefix: PrefixHash = field(default_factory=PrefixHash)
    queue_position: int = 0
    is_cancelled: bool = False  # reader
    consumed: int = 0  # reader: tokens it has taken

    _draw: Draw = field(init=False)
    _uniforms: list[float] = field(default_factory=list)
    _shown: int = 0  # how many of `tokens` have been turned into text, or need not be
    _texts: list[str] = field(default_factory=list)
    _tokens_pending: int = 0
    _logprobs: list[TokenLogprob] = field(default_factory=list)

    def begin(self, tokenizer: Tokenizer) -> None:
        """Turn the prompt into tokens, after those of the restored state where there is one."""
        if self.over is not None:  # the state after exactly this text is wanted
            ids = tokenizer.encode(self.request.prompt)
        else:
            ids, self.begins_with_space = tokenizer.encode_prompt(self.request.prompt)
        self.writer.skips_space = self.begins_with_space
        self.prompt_tokens = len(ids)
        if self.restored is None:
            self.tokens = [tokenizer.document_id, *ids]
        else:
            recent = self.restored.recent
            self.tokens, self.offset, self.fed = [*recent, *ids], self.restored.offset, len(recent) - 1
            if not ids:
                _prime(self.writer, tokenizer, recent)
        self._shown = len(self.tokens)
        for id in self.request.given:
            self.over = self.accept(id, None)
        self._write()
        self._texts, self._tokens_pending, self.consumed = [], 0, self.generated

    @property
    def is_prefilling(self) -> bool:
        """Whether more than the token before the first new one is still to be read."""
        return self.fed < len(self.tokens) - 1

    @property
    def must_begin_with_space(self) -> bool:
        """Whether the next token is the first one and has to begin with a space."""
        return self.begins_with_space and self.generated == 0

    @property
    def ahead(self) -> int:
        """Tokens made that the reader has not taken."""
        return self.generated - self.consumed

    @property
    def unread(self) -> int:
        """Those of them that were told. The others do not count against the reader: a stop string may hold them."""
        return self.ahead - self._tokens_pending

    def next_draw(self) -> Draw:
        """What the sampler needs for the next token."""
        params = self.request.sampling
        if not self._uniforms:
            self._uniforms = uniforms(params.seed, self.offset + len(self.tokens), _UNIFORMS)[::-1]
            self._draw = Draw(params, 0.0)
        self._draw.uniform = self._uniforms.pop()
        if params.repetition_penalty != 1.0:
            self._draw.recent = self.tokens[-PENALTY_WINDOW:]
        return self._draw

    def accept(self, id: int, logprob: TokenLogprob | None) -> FinishReason | None:
        """Take a sampled token, which may end the stream; returns why."""
        self.tokens.append(id)
        self.generated += 1
        self._tokens_pending += 1
        if logprob is not None:
            self._logprobs.append(logprob)
        if self.writer.stops or logprob is not None:  # a token is described as what it adds to the text so far
            self._write()
        if self.writer.is_stopped:
            return "stop"
        return "length" if self.generated >= self.request.sampling.max_tokens else None

    def _write(self) -> None:
        """Turn tokens into text: only when it is to be shown or searched, because many at once cost little more."""
        if self._shown < len(self.tokens):
            self._texts.append(self.writer.push(self.tokens[self._shown :]))
            self._shown = len(self.tokens)

    def _pending_ids(self) -> tuple[int, ...]:
        return tuple(self.tokens[len(self.tokens) - self._tokens_pending :])

    def export(self) -> StreamState | None:
        """What it takes to go on from here; None unless the stream ended right after a token that it showed."""
        if self.final_state is None or self.fed != len(self.tokens) - 1 or self.writer.is_stopped:
            return None
        recent = self.tokens[-PENALTY_WINDOW:]
        offset = self.offset + len(self.tokens) - len(recent)
        return StreamState(offset=offset, recent=tuple(recent), state=self.final_state)

    def started(self, checkpoint: str) -> Started:
        """The event that says that the stream has a slot."""
        return Started(seed=self.request.sampling.seed, checkpoint=checkpoint, prompt_tokens=self.prompt_tokens)

    def take_text(self) -> list[Event]:
        """What was written since the last call, as one event or none. Tokens without text wait for the next text."""
        self._write()
        text = "".join(self._texts)
        if not text and not self._logprobs:
            return []
        event = Text(text=text, tokens=self._tokens_pending, logprobs=tuple(self._logprobs), ids=self._pending_ids())
        self._texts, self._tokens_pending, self._logprobs = [], 0, []
        return [event]

    def finish(self, reason: FinishReason, message: str | None = None) -> list[Event]:
        """The last events: the text that was held back, then the end."""
        self._write()
        self._texts.append(self.writer.flush())
        events = self.take_text()
        if self._tokens_pending:  # the last tokens had no text to show
            events.append(Text(text="", tokens=self._tokens_pending, ids=self._pending_ids()))
            self._tokens_pending = 0
        first, created = self.first_token_at, self.created_at
        events.append(
            Finished(
                reason=reason,
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.generated,
                time_to_first_token_s=None if first is None else first - created,
                duration_s=time.monotonic() - created,
                message=message,
            )
        )
        return events


def _prime(writer: TextWriter, tokenizer: Tokenizer, tokens: Sequence[int]) -> None:
    """Give the writer the bytes of a character that `tokens` end in the middle of."""
    for count in range(min(_LONGEST_CHARACTER, len(tokens)), 0, -1):
        data = b"".join(tokenizer.piece_bytes(id) for id in tokens[-count:])
        if _is_half_character(data):
            writer.push(tokens[-count:])
            return


def _is_half_character(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start == 0
    return False
