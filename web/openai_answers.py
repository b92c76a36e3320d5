"""How texts in the making become OpenAI's answers: whole or in chunks, for completions and for chat.

Knows the shapes only; what runs the generations is openai.py.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, Protocol

from pydantic import BaseModel

from core.requests import Candidate, TokenLogprob

from . import openai_bodies as bodies


@dataclass(slots=True, kw_only=True)
class Choice:
    """One text in the making."""

    index: int
    prompt: str
    seed: int
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)  # where the prompt is echoed with them
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    offset: int = 0  # where the next of them begins; ahead of the text, of which a stop string may hold some back
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reason: Literal["length", "stop"] | None = None


@dataclass(slots=True, kw_only=True)
class Piece:
    """What is new of one choice; `offset` is where it begins, in characters of the completion."""

    choice: Choice
    offset: int
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    is_last: bool = False


class Shape(Protocol):
    """One route's way of answering."""

    def beginning(self, choice: Choice) -> BaseModel | None:
        """Return what a stream sends of a choice before its first piece."""

    def chunk(self, piece: Piece) -> BaseModel:
        """Return what a stream sends of a piece."""

    def ending(self, choice: Choice) -> BaseModel:
        """Return what a stream sends when a choice has ended."""

    def counts(self, usage: bodies.Usage) -> BaseModel:
        """Return what a stream sends last, where usage was asked for."""

    def whole(self, choices: Sequence[Choice], usage: bodies.Usage) -> BaseModel:
        """Return the answer that is not streamed."""


class Completions:
    """The shape of /v1/completions."""

    def __init__(self, *, id: str, model: str, echo: bool, with_logprobs: bool) -> None:
        self._id, self._model, self._created = id, model, int(time.time())
        self._echo = echo
        self._with_logprobs = with_logprobs

    def beginning(self, choice: Choice) -> BaseModel | None:
        """Send the prompt first where it was asked back."""
        if not self._echo:
            return None
        logprobs = self._logprobs(choice.prompt_logprobs, 0, is_prompt=True)
        return self._answer(bodies.CompletionChoice(text=choice.prompt, index=choice.index, logprobs=logprobs))

    def chunk(self, piece: Piece) -> BaseModel:
        """Send the new text."""
        logprobs = self._logprobs(piece.logprobs, len(piece.choice.prompt) + piece.offset)
        return self._answer(bodies.CompletionChoice(text=piece.text, index=piece.choice.index, logprobs=logprobs))

    def ending(self, choice: Choice) -> BaseModel:
        """Send the reason, with no text."""
        return self._answer(
            bodies.CompletionChoice(text="", index=choice.index, finish_reason=choice.reason, seed=choice.seed)
        )

    def counts(self, usage: bodies.Usage) -> BaseModel:
        """Send the usage, with no choices."""
        return bodies.Completion(id=self._id, model=self._model, created=self._created, choices=[], usage=usage)

    def whole(self, choices: Sequence[Choice], usage: bodies.Usage) -> BaseModel:
        """Put every text together."""
        finished = [
            bodies.CompletionChoice(
                text=choice.prompt + choice.text if self._echo else choice.text,
                index=choice.index,
                logprobs=self._logprobs(
                    [*choice.prompt_logprobs, *choice.logprobs],
                    0 if self._echo else len(choice.prompt),
                    is_prompt=bool(choice.prompt_logprobs),
                ),
                finish_reason=choice.reason,
                seed=choice.seed,
            )
            for choice in choices
        ]
        return bodies.Completion(id=self._id, model=self._model, created=self._created, choices=finished, usage=usage)

    def _answer(self, choice: bodies.CompletionChoice) -> BaseModel:
        return bodies.Completion(id=self._id, model=self._model, created=self._created, choices=[choice])

    def _logprobs(
        self, tokens: Sequence[TokenLogprob], at: int, *, is_prompt: bool = False
    ) -> bodies.CompletionLogprobs | None:
        """Return tokens in step; `at` is where they begin, in characters from the beginning of the prompt."""
        if not self._with_logprobs:
            return None
        offsets = [at + before for before in accumulate((len(token.text) for token in tokens), initial=0)]
        # As in the original, nothing is said of a prompt's first token: what it follows is not part of the text.
        known = [index > 0 or not is_prompt for index in range(len(tokens))]
        return bodies.CompletionLogprobs(
            tokens=[token.text for token in tokens],
            token_logprobs=[token.logprob if is_known else None for token, is_known in zip(tokens, known, strict=True)],
            top_logprobs=[
                {_name(one): one.logprob for one in (token, *token.top)} if is_known else None
                for token, is_known in zip(tokens, known, strict=True)
            ],
            text_offset=offsets[:-1],
        )


class Chat:
    """The shape of /v1/chat/completions."""

    def __init__(self, *, id: str, model: str, with_logprobs: bool) -> None:
        self._id, self._model, self._created = id, model, int(time.time())
        self._with_logprobs = with_logprobs

    def beginning(self, choice: Choice) -> BaseModel | None:
        """Say who writes."""
        delta = bodies.ChatDelta(role="assistant", content="")
        return self._answer(bodies.ChatChunkChoice(index=choice.index, delta=delta))

    def chunk(self, piece: Piece) -> BaseModel:
        """Send the new text."""
        delta = bodies.ChatDelta(content=piece.text)
        logprobs = self._logprobs(piece.logprobs)
        return self._answer(bodies.ChatChunkChoice(index=piece.choice.index, delta=delta, logprobs=logprobs))

    def ending(self, choice: Choice) -> BaseModel:
        """Send the reason, with no text."""
        return self._answer(
            bodies.ChatChunkChoice(
                index=choice.index, delta=bodies.ChatDelta(), finish_reason=choice.reason, seed=choice.seed
            )
        )

    def counts(self, usage: bodies.Usage) -> BaseModel:
        """Send the usage, with no choices."""
        return bodies.ChatChunk(id=self._id, model=self._model, created=self._created, choices=[], usage=usage)

    def whole(self, choices: Sequence[Choice], usage: bodies.Usage) -> BaseModel:
        """Put every text together."""
        finished = [
            bodies.ChatChoice(
                index=choice.index,
                message=bodies.ChatAnswer(content=choice.text),
                logprobs=self._logprobs(choice.logprobs),
                finish_reason=choice.reason or "stop",
                seed=choice.seed,
            )
            for choice in choices
        ]
        return bodies.ChatCompletion(
            id=self._id, model=self._model, created=self._created, choices=finished, usage=usage
        )

    def _answer(self, choice: bodies.ChatChunkChoice) -> BaseModel:
        return bodies.ChatChunk(id=self._id, model=self._model, created=self._created, choices=[choice])

    def _logprobs(self, tokens: Iterable[TokenLogprob]) -> bodies.ChatLogprobs | None:
        if not self._with_logprobs:
            return None
        return bodies.ChatLogprobs(
            content=[
                bodies.ChatTokenLogprob(
                    token=token.text,
                    logprob=token.logprob,
                    bytes=list(token.bytes),
                    top_logprobs=[
                        bodies.ChatTopLogprob(token=_name(other), logprob=other.logprob, bytes=list(other.bytes))
                        for other in token.top
                    ],
                )
                for token in tokens
            ]
        )


def _name(token: Candidate) -> str:
    """Return a token's text or, where that is no whole characters, its bytes in the original's notation."""
    if token.bytes and (not token.text or token.text.endswith("\ufffd")):
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)
    return token.text
