"""The messages of the WebSocket at /ws: JSON objects tagged by `type`, one object a text frame.

Shape and types are checked here; the ranges of sampling settings by `core.requests`, for every border alike.
This module knows nothing of sockets. The prose, with examples that a test runs, is docs/protocol.md.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from core.requests import MAX_TOP_LOGPROBS

StreamId = Annotated[str, Field(min_length=1, max_length=64)]
"""A client's own name for a stream, unique among the streams open on its socket."""


class Message(BaseModel):
    """What every message has in common: no unknown fields, no strings for numbers, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


# ---- from the client


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Sampling(Message):
    """Settings that a start may leave out; what is left out comes from the visitor's settings, then config.toml."""

    max_tokens: int | None = Field(default=None, description="most tokens to write")
    temperature: float | None = Field(default=None, description="0 always takes the likeliest token")
    top_k: int | None = Field(default=None, description="keep the k likeliest tokens; 0 is off")
    top_p: float | None = Field(
        default=None, description="keep the likeliest tokens that together reach this probability"
    )
    min_p: float | None = Field(
        default=None, description="drop tokens below this share of the likeliest one's probability"
    )
    repetition_penalty: float | None = Field(default=None, description="above 1 makes tokens already used less likely")
    cache_strength: float | None = Field(
        default=None, description="share of a cache of the text's own words, so that its names come back; 0 is off"
    )
    stop: Annotated[Annotated[list[str], Field(fail_fast=True)] | None, BeforeValidator(_as_list)] = Field(
        default=None, description="end before any of these strings; one string is taken as a list of one"
    )
    seed: int | None = Field(default=None, description="0 to 2**53 - 1; drawn and reported when left out")


class Start(Sampling):
    """Write on from `prompt`."""

    type: Literal["start"] = "start"
    id: StreamId
    prompt: str
    pace: float = Field(default=0.0, description="tokens per second; 0 is as fast as the engine can")
    checkpoint: str | None = Field(
        default=None, description="a name from GET /v1/models; the default one when left out"
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MAX_TOP_LOGPROBS,
        description="report each token's log-probability and this many of the likeliest alternatives",
    )
    resumable: bool = Field(
        False, description="keep writing for a while when the connection drops, so that `resume` can pick the stream up"
    )


class Stop(Message):
    """End a stream now; its `done` says "cancelled". An unknown id is ignored: stop and done may cross."""

    type: Literal["stop"] = "stop"
    id: StreamId


class Resume(Message):
    """Pick up a resumable stream, on this or another socket, after the text that has already been received."""

    type: Literal["resume"] = "resume"
    id: StreamId
    stream: str = Field(max_length=64, description="the key from `accepted`")
    received: int = Field(ge=0, description="characters (Unicode code points) of completion already received")


class Ping(Message):
    """Ask for a `pong`: a browser's scripts cannot see WebSocket's own pings, nor that a connection is dead."""

    type: Literal["ping"] = "ping"


ClientMessage = Annotated[Start | Stop | Resume | Ping, Field(discriminator="type")]
client_messages: TypeAdapter[Start | Stop | Resume | Ping] = TypeAdapter(ClientMessage)


# ---- from the server


class Accepted(Message):
    """The stream exists. Repeating the request with this seed and checkpoint gives the same text."""

    type: Literal["accepted"] = "accepted"
    id: StreamId
    seed: int
    checkpoint: str
    stream: str | None = Field(default=None, description="the key for `resume`; only for resumable streams")


class Queued(Message):
    """All slots are taken; sent again as the place in the queue changes."""

    type: Literal["queued"] = "queued"
    id: StreamId
    position: int = Field(description="1 is next")
    estimate_s: float = Field(description="estimated seconds until the first text")


class Choice(Message):
    """One token the model might have written here."""

    text: str
    logprob: float


class Token(Message):
    """One token that was written, and what else the model might have written in its place."""

    text: str
    logprob: float = Field(description="natural logarithm of the probability, before any sampling setting is applied")
    top: list[Choice] = Field(description="the likeliest tokens at this place, likeliest first")


class Text(Message):
    """The next piece. Joining every `text` of a stream gives exactly the completion."""

    type: Literal["text"] = "text"
    id: StreamId
    text: str
    tokens: list[Token] | None = Field(default=None, description="only when `logprobs` was asked for")


class Done(Message):
    """The stream has ended and stands in the log; nothing follows under this id."""

    type: Literal["done"] = "done"
    id: StreamId
    reason: Literal["length", "stop", "end", "cancelled", "shutdown"]
    prompt_tokens: int
    completion_tokens: int
    time_to_first_token_s: float | None = Field(default=None, description="left out when no token was made")
    duration_s: float
    tokens_per_second: float
    copied_share: float | None = Field(
        default=None,
        description="share of the words that stand in the training books, where that is known",
    )


class Error(Message):
    """Something went wrong. With an id, that stream is over or never began; the other streams go on."""

    type: Literal["error"] = "error"
    id: str | None = None
    code: str = Field(description="stable, for programs; see docs/protocol.md")
    message: str = Field(description="for people: what was expected, what came")
    field: str | None = Field(default=None, description="the field at fault, where there is one")


class Pong(Message):
    """The answer to a `ping`."""

    type: Literal["pong"] = "pong"


ServerMessage = Accepted | Queued | Text | Done | Error | Pong


def encode(message: ServerMessage) -> str:
    """Return the frame's text; fields that are None are left out."""
    return message.model_dump_json(exclude_none=True)
