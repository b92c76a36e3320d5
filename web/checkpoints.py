"""The checkpoints this server can write with: cards, sizes and learning curves; and what of a text they copied."""

import asyncio
import logging
import math
from pathlib import Path
from typing import Any

from aiohttp.web import Request, Response, RouteDef, get, post
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open

from core.checkpoint import CARD, CONFIG, WEIGHTS, read_config
from core.engines import Engines
from core.errors import CheckpointError, InputError
from core.novelty import FILE_NAME as NOVELTY

from .bodies import Body, read_body, respond
from .generation import Generations
from .problems import RefusedError

log = logging.getLogger(__name__)

_MOST_SEARCHED = 2**20  # characters, half a second or so; the page sends whole stories, longer than any prompt


class CheckpointView(BaseModel):
    """A checkpoint in a list; `training` is what its config.json says: data, time, perplexities."""

    name: str
    is_default: bool
    architecture: str
    parameters: int
    bytes: int
    vocab_size: int
    training: dict[str, Any]
    has_novelty_index: bool


class CheckpointDetails(CheckpointView):
    """One checkpoint with its model card and learning curve."""

    card: str
    curve: list[dict[str, Any]]


class CheckpointList(BaseModel):
    """Every checkpoint, the default one first."""

    checkpoints: list[CheckpointView]


class CopiedBody(Body):
    """A text to look for in the training books."""

    text: str
    checkpoint: str | None = Field(default=None, description="whose books; the default checkpoint's when left out")


class SpanView(BaseModel):
    """Characters `start` to `end` (exclusive) of the text, in Unicode code points."""

    start: int
    end: int


class CopiedView(BaseModel):
    """What stands word for word in the books; `spans` is null where that is not known."""

    spans: list[SpanView] | None
    share: float | None
    longest_run: int | None


class Checkpoints:
    """The routes /api/checkpoints and /api/copied."""

    def __init__(self, generations: Generations, *, timeout_s: float) -> None:
        self._generations = generations
        self._engines: Engines = generations.engines
        self._timeout_s = timeout_s
        self._searching = asyncio.Lock()  # threads are shared with the database: one search holds one of them

    def routes(self) -> list[RouteDef]:
        """Return the routes, in the order of docs/protocol.md."""
        return [
            get("/api/checkpoints", self.list),
            get("/api/checkpoints/{name}", self.read),
            post("/api/copied", self.copied),
        ]

    async def list(self, request: Request) -> Response:
        """List the checkpoints."""
        names = sorted(self._engines.names(), key=lambda name: (name != self._engines.default_name, name))
        views = []
        for name in names:
            try:
                views.append(await asyncio.to_thread(self._view, name))
            except CheckpointError as error:  # half copied, or gone: no reason to hide the others
                log.warning("checkpoint left out: name=%s error=%s", name, error)
        return respond(CheckpointList(checkpoints=views))

    async def read(self, request: Request) -> Response:
        """Return one checkpoint with its card and curve."""
        name = self._generations.checkpoint_name(request.match_info["name"])
        try:
            return respond(await asyncio.to_thread(self._details, name))
        except CheckpointError as error:
            log.warning("checkpoint cannot be shown: name=%s error=%s", name, error)
            raise RefusedError("unknown_checkpoint", f"checkpoint {name!r} is damaged or half copied") from error

    async def copied(self, request: Request) -> Response:
        """Find what of a text stands in the books."""
        body = await read_body(request, CopiedBody, timeout_s=self._timeout_s)
        if len(body.text) > _MOST_SEARCHED:
            raise InputError(f"text must be at most {_MOST_SEARCHED} characters, got {len(body.text)}", "text")
        engine = await self._engines.get(self._generations.checkpoint_name(body.checkpoint))
        index = engine.checkpoint.novelty
        if index is None:
            return respond(CopiedView(spans=None, share=None, longest_run=None))
        async with self._searching:
            found = await asyncio.to_thread(index.copied, body.text)
        views = [SpanView(start=span.start, end=span.end) for span in found.spans]
        return respond(CopiedView(spans=views, share=round(found.share, 4), longest_run=found.longest_run))

    def _details(self, name: str) -> CheckpointDetails:
        view, card = self._view(name), self._engines.path(name) / CARD
        try:
            text = card.read_text(encoding="utf-8") if card.exists() else ""
            return CheckpointDetails(**view.model_dump(), card=text, curve=view.training.get("history", []))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot show {card.parent}: {error}") from error

    def _view(self, name: str) -> CheckpointView:
        folder = self._engines.path(name)
        config = read_config(folder / CONFIG)
        try:
            view = CheckpointView(
                name=name,
                is_default=name == self._engines.default_name,
                architecture=config.architecture,
                parameters=_count_parameters(folder / WEIGHTS),
                bytes=sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
                vocab_size=config.model.get("vocab_size", 0),
                training=config.training,
                has_novelty_index=(folder / NOVELTY).exists(),
            )
            view.model_dump_json()  # what is nested too deeply can be read, but not shown
            return view
        except (OSError, ValueError, AttributeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} is not a whole checkpoint: {error}") from error


def _count_parameters(weights: Path) -> int:
    """Count the numbers in a safetensors file by its header alone; a file that is cut short is refused."""
    with safe_open(weights, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
