"""Named checkpoints and their engines: found in folders, loaded when first asked for, swapped while running.

New streams go to the newest load of a checkpoint; streams on an older one finish where they began. Knows nothing of
who asks.
"""

import asyncio
import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from .checkpoint import CONFIG, load_checkpoint
from .engine import Engine, EngineSettings
from .errors import CheckpointError, ClosedError, InputError
from .remote import RemoteEngine
from .requests import Limits
from .threads import in_passing_thread

log = logging.getLogger(__name__)

AnyEngine = Engine | RemoteEngine
SHIPPED = Path(__file__).parent / "checkpoints"
RUN_CHECKPOINT = "checkpoint"  # where a run of the trainer keeps its best, below the run's own folder


class CheckpointSettings(BaseModel):
    """`[checkpoint]`: where checkpoints lie and which one is used when nobody asks for another."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folders: tuple[Path, ...] = (SHIPPED,)
    name: str = ""  # "" = the first by name


class Engines:
    """The engines of one process. `async with Engines(...) as engines` closes them all in the end."""

    def __init__(
        self,
        checkpoints: CheckpointSettings,
        settings: EngineSettings | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._checkpoints = checkpoints
        self._settings = settings or EngineSettings()
        self._limits = limits or Limits()
        self._engines: dict[str, AnyEngine] = {}
        self._outdated: set[str] = set()  # names that were loaded before a swap
        self._default = checkpoints.name
        self._loading = asyncio.Lock()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._retiring: dict[asyncio.Task[None], AnyEngine] = {}  # engines that a swap replaced, as they close
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._loads.values(), return_exceptions=True)
        await self.close()

    async def close(self, grace_s: float | None = None) -> None:
        """Close every engine, those that a swap replaced too, and let none begin; `grace_s` as for `Engine.close`."""
        self._is_closed = True
        engines = [*self._engines.values(), *self._retiring.values()]
        await asyncio.gather(*(engine.close(grace_s) for engine in engines), *self._retiring)

    def names(self) -> list[str]:
        """The checkpoints that can be asked for, in order. Looks on disk, so new ones appear by themselves."""
        return sorted(_find(self._checkpoints.folders))

    @property
    def default_name(self) -> str:
        """The checkpoint that is used when nobody asks for another. Raises CheckpointError where there is none."""
        return self._default or _default_of(self._checkpoints)

    def path(self, name: str) -> Path:
        """The folder of a checkpoint that `names` gives. Raises CheckpointError where it has gone since."""
        found = _find(self._checkpoints.folders)
        if name not in found:
            raise CheckpointError(f"expected a checkpoint named {name!r}, found none")
        return found[name]

    def loaded(self) -> list[AnyEngine]:
        """The engines that are running, for metrics."""
        return list(self._engines.values())

    async def get(self, name: str | None = None) -> AnyEngine:
        """The engine of a checkpoint, loaded if need be. Raises InputError where no checkpoint has this name."""
        if not name:  # settled here: its folder may be away for a moment, while it is replaced
            name = self._default = self.default_name
        if name not in self._engines:
            # A task of its own: whoever asked first may leave while it loads, and the next one waits for the same load.
            load = self._loads.get(name)
            if load is None:
                load = self._loads[name] = asyncio.create_task(self._load_once(name))
                load.add_done_callback(lambda _: self._loads.pop(name))
            await asyncio.shield(load)
        return self._engines[name]

    async def swap(self, checkpoints: CheckpointSettings) -> AnyEngine:
        """Take other settings, load their default (again), every other one when it is next asked for.

        Streams that run finish on the engine where they began. Raises what `get` raises, and then changes nothing.
        """
        async with self._loading:
            name = _default_of(checkpoints)
            fresh = await self._load(name, checkpoints, is_swap=True)
            old, self._engines = list(self._engines.values()), {name: fresh}
            self._outdated = {engine.name for engine in old} | self._outdated - {name}
            self._checkpoints, self._default = checkpoints, name
        for engine in old:
            retiring = asyncio.create_task(engine.close(math.inf))
            self._retiring[retiring] = engine
            retiring.add_done_callback(self._retiring.pop)
        return fresh

    async def _load_once(self, name: str) -> None:
        async with self._loading:
            if name not in self._engines:
                self._engines[name] = await self._load(name, self._checkpoints, is_swap=name in self._outdated)
                self._outdated.discard(name)

    async def _load(self, name: str, checkpoints: CheckpointSettings, *, is_swap: bool) -> AnyEngine:
        found = _find(checkpoints.folders)
        if name not in found:
            raise InputError(f"checkpoint must be one of {', '.join(sorted(found))}, got {name!r}", "checkpoint")
        checkpoint = await in_passing_thread(load_checkpoint, found[name])
        checkpoint = replace(checkpoint, name=name)  # not that of a run's folder "checkpoint"
        log.info("checkpoint_loaded name=%s path=%s", name, found[name])
        engine: AnyEngine = (
            RemoteEngine(checkpoint, self._settings, self._limits, redeploy=is_swap)
            if self._settings.backend == "ray"
            else Engine(checkpoint, self._settings, self._limits)
        )
        await engine.__aenter__()
        if self._is_closed:
            await engine.close()
            raise ClosedError("the server is shutting down; please try again in a moment")
        return engine


def _default_of(checkpoints: CheckpointSettings) -> str:
    """Return the name that is asked for, or the first that is found. Raises CheckpointError where there is none."""
    if name := checkpoints.name or min(_find(checkpoints.folders), default=""):
        return name
    folders = ", ".join(map(str, checkpoints.folders))
    raise CheckpointError(f"expected a checkpoint in {folders}, found none")


def _find(folders: Iterable[Path]) -> dict[str, Path]:
    """Checkpoints by name, runs of the trainer among them; of two with one name the first folder's wins."""
    found: dict[str, Path] = {}
    for folder in folders:
        for config in (*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/{RUN_CHECKPOINT}/{CONFIG}")):
            name = config.relative_to(folder).parts[0]
            if not name.startswith("."):
                found.setdefault(name, config.parent)
    return found
