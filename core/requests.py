"""What a caller asks of a generation and what it hears back. Knows nothing of torch, sockets or Discord.

A border (page, bot, HTTP, command line) turns its input into a `GenerationRequest` and shows the events; the engine
does the rest. Ranges stand here, so that every border offers and refuses the same values.
"""

import reprlib
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .errors import InputError

SEED_RANGE = 2**53  # every seed is exact in a JavaScript number
MAX_STOPS = 16
MAX_STOP_CHARS = 200
MAX_TOP_LOGPROBS = 20

FinishReason = Literal["length", "stop", "end", "cancelled", "shutdown", "error"]


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval, open on the left where `low_is_open`; with `or_zero` 0 is in it too, and means off."""

    low: float
    high: float
    low_is_open: bool = False
    or_zero: bool = False

    def __contains__(self, value: float) -> bool:
        is_high_enough = self.low < value if self.low_is_open else self.low <= value
        return (is_high_enough and value <= self.high) or (self.or_zero and value == 0)

    def __str__(self) -> str:
        return f"{'(' if self.low_is_open else '['}{self.low:g}, {self.high:g}]"


RANGES = {
    "temperature": Range(0, 2),
    "top_k": Range(0, 1000),
    "top_p": Range(0, 1, low_is_open=True),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(1, 2),
    "cache_strength": Range(0, 1),
    "pace": Range(0.5, 1000, or_zero=True),
}


NEUTRAL = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "cache_strength": 0.0,
}
"""The settings that leave a model's distribution as it is."""


class SamplingDefaults(BaseModel):
    """`[sampling]`: what a request gets that does not say otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_k: int = Field(default=0, ge=0, le=1000)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.005, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=1, le=2)
    cache_strength: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int = Field(default=200, ge=1)


class Limits(BaseModel):
    """`[limits]`: the largest request that any border accepts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_prompt_bytes: int = Field(default=262_144, ge=1)
    max_tokens: int = Field(default=4096, ge=1)

    def check(self, request: "GenerationRequest") -> None:
        """Raise InputError where `request` asks for more than is allowed."""
        prompt_bytes = len(request.prompt.encode())
        if prompt_bytes > self.max_prompt_bytes:
            raise InputError(f"prompt must be at most {self.max_prompt_bytes} bytes, got {prompt_bytes}", "prompt")
        if request.sampling.max_tokens > self.max_tokens:
            got = reprlib.repr(request.sampling.max_tokens)
            raise InputError(f"max_tokens must be in [1, {self.max_tokens}], got {got}", "max_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen. Equal parameters and an equal prompt give equal text.

    temperature 0 is greedy; top_k 0 is off; at most `max_tokens` tokens are made. Raises InputError out of range.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()
    cache_strength: float = 0.0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "cache_strength"):
            _check_range(name, getattr(self, name), whole=name == "top_k")
        _check_whole("max_tokens", self.max_tokens, 1, None)
        _check_whole("seed", self.seed, 0, SEED_RANGE - 1)
        _check_stops(self.stop)


def sampling_params(defaults: SamplingDefaults, **asked: Any) -> SamplingParams:
    """Lay what was asked over the defaults; None means not asked. A seed is drawn where none is given."""
    chosen = defaults.model_dump() | {name: value for name, value in asked.items() if value is not None}
    chosen.setdefault("seed", secrets.randbelow(SEED_RANGE))
    chosen["stop"] = tuple(chosen.get("stop", ()))
    return SamplingParams(**chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One text to write on.

    `pace` is in tokens per second, 0 = as fast as the engine can. `top_logprobs` asks for that many alternatives per
    token, None for no log probabilities at all. `state` is an exported stream to go on from; `prompt` is then only the
    text that came after it. `given` are the first tokens of the answer where they are known already, because another
    machine gave them before it failed: they count as written, and the events begin after them.
    """

    prompt: str
    sampling: SamplingParams
    pace: float = 0.0
    top_logprobs: int | None = None
    state: bytes | None = None
    given: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        try:
            self.prompt.encode()
        except UnicodeEncodeError as error:
            message = f"prompt must be Unicode text, got a lone surrogate at character {error.start}"
            raise InputError(message, "prompt") from None
        _check_range("pace", self.pace)
        if self.top_logprobs is not None:
            _check_whole("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """The stream waits for a slot; position 1 is next. `estimate_s` is in seconds."""

    position: int
    estimate_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The stream has a slot. `seed` is the one used, so that any text can be made again."""

    seed: int
    checkpoint: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A token that might come next, and the natural logarithm of its probability before any filter.

    Where it would leave a character unfinished, its text ends in U+FFFD. The story's end has neither text nor bytes.
    """

    text: str
    bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob(Candidate):
    """The token that came, and the likeliest ones in its place, likeliest first.

    Its text is what it adds: nothing where it leaves a character unfinished, the whole of one that it completes.
    """

    id: int
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """New text, made of `tokens` tokens, which are `ids`. Joining every `text` gives exactly the completion."""

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last event. Times are in seconds from the request; `message` explains reason "error"."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    time_to_first_token_s: float | None
    duration_s: float
    message: str | None = None


Event = Queued | Started | Text | Finished


def _check_range(name: str, value: object, *, whole: bool = False) -> None:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    expected = RANGES[name]
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or value not in expected:  # type: ignore[operator]
        kind = "a whole number " if whole else "0 or " if expected.or_zero else ""
        raise InputError(f"{name} must be {kind}in {expected}, got {reprlib.repr(value)}", name)


def _check_whole(name: str, value: object, low: int, high: int | None) -> None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        expected = f"in [{low}, {high}]" if high is not None else f"of at least {low}"
        raise InputError(f"{name} must be a whole number {expected}, got {reprlib.repr(value)}", name)


def _check_stops(stops: tuple[object, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise InputError(f"stop must hold at most {MAX_STOPS} strings, got {len(stops)}", "stop")
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_CHARS:
            raise InputError(
                f"each stop must be a string of 1 to {MAX_STOP_CHARS} characters, got {str(stop)[:60]!r}", "stop"
            )
