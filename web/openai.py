"""The OpenAI-compatible routes, so that clients people already have can write with these checkpoints.

Follows OpenAI's API reference for completions, chat completions and models; what differs stands in docs/protocol.md.
"""

import asyncio
import json
import reprlib
import secrets
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp.web import Request, Response, RouteDef, StreamResponse, get, post
from pydantic import BaseModel

from core.checkpoint import load_checkpoint
from core.errors import CheckpointError, ClosedError, GenerationError, InputError
from core.requests import SEED_RANGE, Event, Finished, Started, Text, sampling_params
from core.scoring import score
from core.threads import in_passing_thread
from core.tokenizer import Tokenizer

from . import openai_bodies as bodies
from .bodies import AnyBody, read_body, respond
from .generation import Generations, Wanted
from .openai_answers import Chat, Choice, Completions, Piece, Shape
from .problems import RefusedError, as_json, translate
from .sending import in_time
from .settings import WebSettings
from .streams import Opened
from .visitors import VISITOR

_DEFAULT_MAX_TOKENS = 16  # the original's, for completions
_MOST_SCORED = 32_768  # characters of all prompts that are read for their log-probabilities, some seconds
_SEAM = "\n\n"  # before a user's message: it begins a paragraph of the story
_BYTES_A_PROMPT_BYTE = 4  # of JSON: Cyrillic that is escaped, \u0436, takes three
_BYTES_BESIDE_THE_PROMPT = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """One request, whichever route it came by."""

    body: bodies.Common
    prompts: Sequence[str]
    max_tokens: int | None
    top_logprobs: int | None
    shape: Shape
    scores_prompts: bool = False


class OpenAI:
    """The routes under /v1."""

    def __init__(self, generations: Generations, settings: WebSettings) -> None:
        self._generations = generations
        self._settings = settings
        largest = _BYTES_A_PROMPT_BYTE * generations.request_limits.max_prompt_bytes + _BYTES_BESIDE_THE_PROMPT
        self._most_bytes = min(settings.max_message_bytes, largest)
        self._scoring = asyncio.Lock()

    def routes(self) -> list[RouteDef]:
        """Return the routes, in the order of docs/protocol.md."""
        return [
            post("/v1/completions", self.complete),
            post("/v1/chat/completions", self.chat),
            get("/v1/models", self.models),
            get("/v1/models/{id:.+}", self.model),
        ]

    async def complete(self, request: Request) -> StreamResponse:
        """Write on from one prompt or several."""
        body = await self._read(request, bodies.CompletionBody)
        self._check_model(body.model)
        if body.max_tokens == 0 and (not body.echo or body.logprobs is None):
            raise InputError("max_tokens must be at least 1 unless echo and logprobs are set, got 0", "max_tokens")
        shape = Completions(
            id=f"cmpl-{uuid.uuid4().hex}",
            model=body.model,
            echo=bool(body.echo),
            with_logprobs=body.logprobs is not None,
        )
        plan = _Plan(
            body=body,
            prompts=await self._prompts(body),
            max_tokens=_DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens,
            top_logprobs=body.logprobs,
            shape=shape,
            scores_prompts=bool(body.echo) and body.logprobs is not None,
        )
        return await self._answer(request, plan)

    async def chat(self, request: Request) -> StreamResponse:
        """Write on from the messages' texts: the user's begin paragraphs, the assistant's go on with what is there."""
        body = await self._read(request, bodies.ChatBody)
        self._check_model(body.model)
        plan = _Plan(
            body=body,
            prompts=[_story(body.messages)],
            max_tokens=body.max_completion_tokens or body.max_tokens,
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            shape=Chat(id=f"chatcmpl-{uuid.uuid4().hex}", model=body.model, with_logprobs=bool(body.logprobs)),
        )
        return await self._answer(request, plan)

    async def _read(self, request: Request, kind: type[AnyBody]) -> AnyBody:
        """Read a body; it counts like a text whatever comes of it, for it may be large."""
        self._generations.limits.spend(request[VISITOR].client)
        return await read_body(request, kind, timeout_s=self._settings.request_timeout_s, most_bytes=self._most_bytes)

    async def models(self, request: Request) -> Response:
        """List the checkpoints."""
        models = [self._model(name) for name in self._generations.engines.names()]
        return respond(bodies.ModelList(data=[model for model in models if model]))

    async def model(self, request: Request) -> Response:
        """Return one checkpoint."""
        model = self._model(request.match_info["id"])
        if model is None:
            raise _no_model(request.match_info["id"])
        return respond(model)

    def _model(self, name: str) -> bodies.Model | None:
        try:
            return bodies.Model(id=name, created=int(self._generations.engines.path(name).stat().st_mtime))
        except (CheckpointError, OSError):  # there is none, or it went this moment
            return None

    def _check_model(self, name: str) -> None:
        if name not in self._generations.engines.names():
            raise _no_model(name)

    async def _prompts(self, body: bodies.CompletionBody) -> list[str]:
        given = body.prompt
        if isinstance(given, str):
            return [given]
        if not given:
            raise InputError("prompt must hold at least one text, got an empty list", "prompt")
        prompts: list[str | list[int]] = [given] if isinstance(given[0], int) else given  # type: ignore[assignment]
        tokenizer = (await self._generations.engines.get(body.model)).tokenizer
        texts = []
        for prompt in prompts:
            if not isinstance(prompt, str):
                if any(id >= tokenizer.vocab_size for id in prompt):
                    raise InputError(f"prompt's token ids must be below {tokenizer.vocab_size}", "prompt")
                prompt = await asyncio.to_thread(self._text, tokenizer, prompt)
            texts.append(prompt)
        return texts

    def _text(self, tokenizer: Tokenizer, ids: list[int]) -> str:
        text = tokenizer.decode(ids)
        is_short = len(text) <= self._generations.request_limits.max_prompt_bytes  # or it is refused later
        if is_short and tokenizer.encode(text) != ids:
            message = "prompt's token ids must be those that the model reads their text as; send the text instead"
            raise InputError(message, "prompt")
        return text

    # ---- running

    async def _answer(self, request: Request, plan: _Plan) -> StreamResponse:
        choices = self._choices(request, plan)
        if plan.scores_prompts:
            await self._score(request, plan, choices)
        pairs = [(choice, await self._open(request, plan, choice)) for choice in choices if plan.max_tokens != 0]
        async with aclosing(_merged(pairs)) as pieces:
            if plan.body.stream:
                return await self._stream(request, plan, choices, pieces)
            async for _ in pieces:
                pass  # each choice gathers its own text
        # with log-probabilities, tens of megabytes
        return await asyncio.to_thread(lambda: respond(plan.shape.whole(choices, _usage(choices, plan))))

    def _choices(self, request: Request, plan: _Plan) -> list[Choice]:
        n, most = plan.body.n or 1, self._settings.max_choices
        total = n * len(plan.prompts)
        if total > most:
            raise InputError(f"n times the number of prompts must be in [1, {most}], got {total}", "n")
        seed = secrets.randbelow(SEED_RANGE - n) if plan.body.seed is None else plan.body.seed
        if seed > SEED_RANGE - n:
            message = f"seed must be in [0, {SEED_RANGE - n}] where n is {n}, got {reprlib.repr(seed)}"
            raise InputError(message, "seed")
        self._generations.limits.spend(request[VISITOR].client, total - 1)  # the first was when the body was read
        return [
            Choice(index=index, prompt=plan.prompts[index // n], seed=seed + index % n, reason="length")
            for index in range(total)
        ]

    async def _score(self, request: Request, plan: _Plan, choices: Sequence[Choice]) -> None:
        """Read the prompts' own log-probabilities, each prompt once, one request at a time."""
        length = sum(map(len, plan.prompts))
        if length > _MOST_SCORED:
            message = f"prompt must be at most {_MOST_SCORED} characters in all with echo and logprobs, got {length}"
            raise InputError(message, "prompt")
        sampling_params(self._generations.defaults, **plan.body.sampling())  # also where none is needed
        n = plan.body.n or 1
        with self._generations.limits.stream(request[VISITOR].client):
            async with self._scoring:
                # Loaded for this alone and let go: a running engine keeps only its packed weights.
                checkpoint = await in_passing_thread(load_checkpoint, self._generations.engines.path(plan.body.model))
                for first in range(0, len(choices), n):
                    prompt, top = choices[first].prompt, plan.top_logprobs or 0
                    scored = await in_passing_thread(score, checkpoint, prompt, top=top)
                    for choice in choices[first : first + n]:
                        choice.prompt_logprobs, choice.prompt_tokens = scored, len(scored)

    async def _open(self, request: Request, plan: _Plan, choice: Choice) -> Opened:
        wanted = Wanted(
            visitor=request[VISITOR],
            source="api",
            prompt=choice.prompt,
            sampling=plan.body.sampling() | {"max_tokens": plan.max_tokens, "seed": choice.seed},
            checkpoint=plan.body.model,
            top_logprobs=plan.top_logprobs,
        )
        return await self._generations.open(wanted, personal=False)

    async def _stream(
        self, request: Request, plan: _Plan, choices: Sequence[Choice], pieces: AsyncGenerator[list[Piece], None]
    ) -> StreamResponse:
        batch: list[Piece] = await anext(
            pieces, []
        )  # what is refused, is refused before the answer begins, with its own status
        response = StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        await self._send(request, response, *filter(None, map(plan.shape.beginning, choices)))
        if plan.max_tokens == 0:
            await self._send(request, response, *map(plan.shape.ending, choices))
        try:
            while batch:
                await self._send(request, response, *self._chunks(plan.shape, batch))
                batch = await anext(pieces, [])
        except Exception as error:
            if isinstance(error, ConnectionError):
                raise
            await self._write(request, response, f"data: {json.dumps(as_json(translate(error)))}\n\n")
            return response
        options = plan.body.stream_options
        if options and options.include_usage:
            await self._send(request, response, plan.shape.counts(_usage(choices, plan)))
        await self._write(request, response, "data: [DONE]\n\n")
        return response

    def _chunks(self, shape: Shape, batch: list[Piece]) -> list[BaseModel]:
        chunks = []
        for piece in batch:
            if piece.text or piece.logprobs:
                chunks.append(shape.chunk(piece))
            if piece.is_last:
                chunks.append(shape.ending(piece.choice))
        return chunks

    async def _send(self, request: Request, response: StreamResponse, *chunks: BaseModel) -> None:
        frames = (f"data: {chunk.model_dump_json()}\n\n" for chunk in chunks)
        await self._write(request, response, "".join(frames))

    async def _write(self, request: Request, response: StreamResponse, text: str) -> None:
        async with in_time(request, self._settings.send_timeout_s):
            await response.write(text.encode())


async def _merged(pairs: Sequence[tuple[Choice, Opened]]) -> AsyncGenerator[list[Piece], None]:
    """Run every choice at once; give what is new, joined by choice. Whatever one raises ends them all."""
    news: asyncio.Queue[tuple[Choice, Event | Exception]] = asyncio.Queue()
    tasks = [asyncio.create_task(_pump(choice, opened, news)) for choice, opened in pairs]
    running = len(tasks)
    try:
        while running:
            batch = [await news.get()]
            while not news.empty():
                batch.append(news.get_nowait())
            pieces = _joined(batch)
            running -= sum(piece.is_last for piece in pieces)
            if pieces:
                yield pieces
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(choice: Choice, opened: Opened, news: asyncio.Queue[tuple[Choice, Event | Exception]]) -> None:
    try:
        async with aclosing(opened.events) as events:
            async for event in events:
                news.put_nowait((choice, event))
    except Exception as error:
        news.put_nowait((choice, error))


def _joined(batch: Sequence[tuple[Choice, Event | Exception]]) -> list[Piece]:
    """Bring each choice up to date and return one piece for each that has something new."""
    pieces: dict[int, Piece] = {}
    for choice, event in batch:
        piece = pieces.get(choice.index)
        match event:
            case Exception():
                raise event
            case Started():
                choice.prompt_tokens = event.prompt_tokens
                continue
            case Text():
                piece = piece or pieces.setdefault(choice.index, Piece(choice=choice, offset=choice.offset))
                piece.text += event.text
                piece.logprobs.extend(event.logprobs)
                choice.text += event.text
                choice.logprobs.extend(event.logprobs)
                choice.offset += sum(len(token.text) for token in event.logprobs)
            case Finished(reason="error"):
                raise GenerationError(event.message or "the generation failed")
            case Finished(reason="shutdown"):
                raise ClosedError("the server is shutting down; try again")
            case Finished():
                piece = piece or pieces.setdefault(choice.index, Piece(choice=choice, offset=choice.offset))
                piece.is_last = True
                choice.reason = "length" if event.reason == "length" else "stop"
                choice.prompt_tokens, choice.completion_tokens = event.prompt_tokens, event.completion_tokens
    return list(pieces.values())


def _story(messages: Sequence[bodies.ChatMessage]) -> str:
    """Join the messages: the assistant's text goes on with what stands before it, in mid-sentence where that ends."""
    return "".join(
        _SEAM + message.text if index and message.role == "user" else message.text
        for index, message in enumerate(messages)
    )


def _no_model(name: str) -> RefusedError:
    return RefusedError("model_not_found", f"the model {name[:60]!r} does not exist; GET /v1/models", "model")


def _usage(choices: Sequence[Choice], plan: _Plan) -> bodies.Usage:
    read = sum(choice.prompt_tokens for choice in choices[:: plan.body.n or 1])  # once a prompt, as the original counts
    written = sum(choice.completion_tokens for choice in choices)
    return bodies.Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
