"""The state of a run on disk: each process writes its own part, one rename makes them a whole.

There is always a whole one: a process that dies, or a disk that is full, leaves the one before.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.checkpoint import sync
from core.errors import CheckpointError

from . import distributed

log = logging.getLogger(__name__)


def save(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any], device: torch.device) -> None:
    """Write this process's `tensors` and the `facts` of all, "step" and "world_size" among them, in place of the last.

    Where that fails for one of the processes, on a full disk say, the log says so and the last state stays.
    """
    aside, old = _beside(folder, ".new"), _beside(folder, ".old")
    failures = torch.zeros((), device=device)
    try:
        _write_part(aside, tensors, facts)
    except (OSError, SafetensorError) as error:
        log.error("cannot save the state of step %d in %s: %s", facts["step"], aside, error)
        failures += 1
    if distributed.sum_over_ranks(failures):
        shutil.rmtree(aside, ignore_errors=True)
        return
    if distributed.rank() == 0:
        shutil.rmtree(old, ignore_errors=True)
        sync(aside)
        if folder.exists():
            os.replace(folder, old)
        os.replace(aside, folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    distributed.barrier()


def _write_part(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if distributed.rank() == 0:
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        sync(folder / "facts.json")
    part = folder / f"rank{distributed.rank()}.safetensors"
    save_file(tensors, part)
    sync(part)


def load(folder: Path, device: torch.device) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
    """Return the facts, and the tensors of every process there was. Raises CheckpointError where they are damaged."""
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        parts = [f"rank{rank}.safetensors" for rank in range(facts["world_size"])]
        return facts, [load_file(folder / part, device=str(device)) for part in parts]
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> CheckpointError:
    """Say that a state is not what `save` wrote."""
    return CheckpointError(f"{folder}: expected the state of a run, got a damaged one: {error}")


def saved_state(folder: Path) -> Path | None:
    """Where the last whole state stands that `save` wrote to `folder`."""
    places = folder, _beside(folder, ".old")  # the latter alone if the process died between two renames
    return next((path for path in places if path.exists()), None)


def forget(folder: Path) -> None:
    """Remove the state that `save` wrote to `folder`, whole or in part."""
    for suffix in ("", ".new", ".old"):
        shutil.rmtree(_beside(folder, suffix), ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)
