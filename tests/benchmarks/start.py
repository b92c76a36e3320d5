"""From the start of `python -m core` to its first token, and its peak memory. The first run warms the disk cache."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from .table import checkpoint_path, heading, parser, table

RUNS = 5


def run_once(path: Path) -> tuple[float, float, float]:
    """Seconds to the first byte of text, processor seconds in all, and peak memory in MB."""
    environment = os.environ | {
        "FABLEWRIGHT_CHECKPOINT__FOLDERS": json.dumps([str(path.parent.resolve())]),
        "FABLEWRIGHT_CHECKPOINT__NAME": path.name,
    }
    command = [sys.executable, "-m", "core", "Once upon a time", "--max-tokens", "1", "--seed", "7"]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.read(1)
    first_s = time.perf_counter() - began
    process.stdout.close()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # already waited for
    return first_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    path = checkpoint_path(parser(__doc__).parse_args().checkpoint)
    run_once(path)
    runs = [run_once(path) for _ in range(RUNS)]
    heading(f"start: {path.name}, {RUNS} runs")
    columns = list(zip(*runs, strict=True))
    names = ("first token, s", "processor time, s", "peak memory, MB")
    bars = ("under 3", "", "under 450")
    table(("", "best", "worst", "bar"), [[n, min(c), max(c), b] for n, c, b in zip(names, columns, bars, strict=True)])


if __name__ == "__main__":
    main()
