"""The bodies of the OpenAI-compatible routes, as OpenAI's API reference gives them for completions, chat and models.

Fields that this server cannot honour are named and refused unless they hold the value that changes nothing: a request
must not seem to work and then be answered without what it asked for.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from core.errors import InputError
from core.requests import NEUTRAL

from .bodies import Body

_MOST_ITEMS = 4096  # of a list of texts, messages or parts; token ids may be more


def _nothing(value: object) -> object:
    if value:
        raise ValueError("this model reads and writes text alone; leave it out")
    return value


# Lists end at their first fault: one finding for every element of a large body would take seconds and gigabytes.
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(fail_fast=True)]
Texts = Annotated[list[str], Field(fail_fast=True, max_length=_MOST_ITEMS)]
Stops = str | Texts | None
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Nothing = Annotated[Any, AfterValidator(_nothing)]  # null or empty: what answers carry and clients send back


class StreamOptions(Body):
    """What a stream carries besides the text."""

    include_usage: bool | None = Field(default=None, description="end the stream with a chunk that counts the tokens")
    include_obfuscation: bool | None = Field(default=None, description="accepted and ignored")


class Common(Body):
    """What completions and chat have in common, our own settings included."""

    model: str = Field(description="a name from GET /v1/models")
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(default=None, description="ours: keep the k likeliest tokens; 0 is off")
    min_p: float | None = Field(default=None, description="ours: drop tokens below this share of the likeliest one")
    repetition_penalty: float | None = Field(default=None, description="ours: above 1, used tokens become less likely")
    cache_strength: float | None = Field(default=None, description="ours: share of a cache of the text's own words")
    n: Count | None = Field(default=None, description="choices; choice i is drawn with seed + i")
    stop: Stops = None
    seed: int | None = Field(default=None, description="drawn, and reported with each choice, when left out")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, description="accepted and ignored")
    presence_penalty: float | None = Field(default=None, description="only 0; use repetition_penalty")
    frequency_penalty: float | None = Field(default=None, description="only 0; use repetition_penalty")
    logit_bias: dict[str, float] | None = Field(default=None, description="only zeros; use repetition_penalty")

    @model_validator(mode="after")
    def _refuse_what_cannot_be_honoured(self) -> "Common":
        biases = {"presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty}
        biases["logit_bias"] = any((self.logit_bias or {}).values())
        for name, bias in biases.items():
            if bias:
                raise InputError(f"{name} is not supported by this server; repetition_penalty is", name)
        if self.stream_options is not None and not self.stream:
            raise InputError("stream_options is only allowed when stream is true", "stream_options")
        return self

    def sampling(self) -> dict[str, Any]:
        """Return the sampling settings; as in the original, those left out are neutral, not config.toml's."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        given = {name: value for name in NEUTRAL if (value := getattr(self, name)) is not None}
        return NEUTRAL | given | {"stop": stops or []}


class CompletionBody(Common):
    """POST /v1/completions."""

    prompt: str | TokenIds | Texts | Annotated[list[TokenIds], Field(fail_fast=True, max_length=_MOST_ITEMS)] = Field(
        default="", description="text, token ids, or a list of either"
    )
    max_tokens: int | None = Field(default=None, ge=0, description="16 when left out; 0 only with echo")
    logprobs: int | None = Field(default=None, ge=0, le=20, description="alternatives to report for each token")
    echo: bool | None = Field(default=None, description="begin the text with the prompt")
    best_of: Count | None = Field(default=None, description="only the value of n")
    suffix: str | None = Field(default=None, description="only null: this model writes on, it does not fill in")

    @model_validator(mode="after")
    def _refuse_more(self) -> "CompletionBody":
        if self.suffix:
            raise InputError("suffix is not supported: this model writes on, it does not fill in", "suffix")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InputError(f"best_of must be equal to n ({self.n or 1}) here, got {self.best_of}", "best_of")
        return self


class ContentPart(Body):
    """A piece of a message; this server reads text only."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """One message: a piece of the story so far."""

    role: Literal["user", "assistant"]
    content: str | Annotated[list[ContentPart], Field(fail_fast=True, max_length=_MOST_ITEMS)]
    name: str | None = None
    refusal: Nothing = None
    annotations: Nothing = None
    audio: Nothing = None
    function_call: Nothing = None
    tool_calls: Nothing = None

    @property
    def text(self) -> str:
        """Return the content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponseFormat(Body):
    """How an answer is written; this model writes prose."""

    type: Literal["text"]


class ChatBody(Common):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=_MOST_ITEMS, fail_fast=True)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: Nothing = Field(default=None, description="only []")

    @model_validator(mode="before")
    @classmethod
    def _explain_roles(cls, body: Any) -> Any:
        messages = body.get("messages") if isinstance(body, dict) else None
        for index, message in enumerate(messages if isinstance(messages, list) else []):
            role = message.get("role") if isinstance(message, dict) else None
            if role in ("system", "developer", "tool", "function"):
                raise InputError(
                    f"this model continues text and follows no instructions; leave the {role} message out",
                    f"messages.{index}.role",
                )
        return body

    @model_validator(mode="after")
    def _refuse_lone_top_logprobs(self) -> "ChatBody":
        if self.top_logprobs is not None and not self.logprobs:
            raise InputError("top_logprobs is only allowed when logprobs is true", "top_logprobs")
        return self


class Usage(BaseModel):
    """Tokens read and written. A prompt is counted once, whatever `n` is."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(BaseModel):
    """Token by token, in step."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One text."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["length", "stop"] | None = None
    seed: int | None = Field(default=None, description="ours: what this choice was drawn with")


class Completion(BaseModel):
    """An answer, or one chunk of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ChatTopLogprob(BaseModel):
    """An alternative token."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(ChatTopLogprob):
    """A token that was written."""

    top_logprobs: list[ChatTopLogprob]


class ChatLogprobs(BaseModel):
    """Token by token."""

    content: list[ChatTokenLogprob]
    refusal: None = None


class ChatAnswer(BaseModel):
    """What the model wrote on."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatDelta(BaseModel):
    """The next piece of it."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class ChatChoice(BaseModel):
    """One whole text."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["length", "stop"]
    seed: int | None = Field(default=None, description="ours: what this choice was drawn with")


class ChatChunkChoice(BaseModel):
    """A piece of one text."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["length", "stop"] | None = None
    seed: int | None = None


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


class ChatChunk(BaseModel):
    """A chunk of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class Model(BaseModel):
    """A checkpoint, as OpenAI lists models."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["fablewright"] = "fablewright"


class ModelList(BaseModel):
    """Every checkpoint."""

    object: Literal["list"] = "list"
    data: list[Model]
