"""What every benchmark prints: the machine, the command, and a table; and which checkpoint it measures."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.checkpoint import Checkpoint, load_checkpoint
from core.engines import SHIPPED, CheckpointSettings, Engines

Cell = str | int | float


def parser(doc: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--checkpoint", type=Path, help="checkpoint directory; the one that ships where left out")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for the products")
    return parser


def checkpoint_path(chosen: Path | None) -> Path:
    """The checkpoint to measure."""
    return chosen or SHIPPED / Engines(CheckpointSettings()).default_name


def load(chosen: Path | None) -> Checkpoint:
    """Load the checkpoint to measure."""
    with ThreadPoolExecutor(1) as passing:  # its OpenMP helpers end with it, and do not slow what is measured
        return passing.submit(load_checkpoint, checkpoint_path(chosen)).result()


def heading(title: str) -> None:
    """Say what is measured, on what, by which command."""
    print(f"\n## {title}\n")
    load_1, _, _ = os.getloadavg()
    cores = len(os.sched_getaffinity(0))
    print(f"{_processor()}, {cores} cores, load {load_1:.1f} at the start; Python {platform.python_version()}")
    module = Path(sys.argv[0]).stem
    print(f"`python -m tests.benchmarks.{module}{''.join(f' {argument}' for argument in sys.argv[1:])}`\n")


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a Markdown table, first column to the left, the others to the right."""
    cells = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for number, row in enumerate(cells):
        first, *others = zip(row, widths, strict=True)
        print("| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |")
        if number == 0:
            print("|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    sys.stdout.flush()


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
