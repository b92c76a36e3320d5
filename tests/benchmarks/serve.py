"""Many readers at once over real WebSockets: `python -m web serve` in a process of its own, and readers beside it.

Every stream has a socket of its own and asks for 200 tokens at full speed. Afterwards each joined text is compared
with the completion in the log. The readers run on the same cores as the server, as they do nowhere else.
"""

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from .table import checkpoint_path, heading, parser, table

STREAMS = (1, 10, 100, 500, 1000)
TOKENS = 200
START_S = 120.0
LIMITS_OFF = {
    "FABLEWRIGHT_WEB__REQUESTS_PER_MINUTE": "0",
    "FABLEWRIGHT_WEB__STREAMS_PER_CLIENT": "0",
    "FABLEWRIGHT_WEB__SOCKETS_PER_CLIENT": "0",
}


@dataclass(slots=True)
class Reading:
    """What one reader saw."""

    text: str = ""
    tokens: int = 0
    error: str = ""
    first_s: float = 0.0
    duration_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)


@contextlib.contextmanager
def server(checkpoint: Path, folder: Path) -> Iterator[tuple[int, int, Path]]:
    """A running server: its port, its process id and its database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = folder / "log.sqlite3"
    environment = os.environ | LIMITS_OFF | {
        "FABLEWRIGHT_CHECKPOINT__FOLDERS": json.dumps([str(checkpoint.parent.resolve())]),
        "FABLEWRIGHT_CHECKPOINT__NAME": checkpoint.name,
        "FABLEWRIGHT_DATABASE__URL": f"sqlite:///{database}",
        "FABLEWRIGHT_WEB__HANDOVER_SOCKET": str(folder / "web.sock"),
    }  # fmt: skip
    command = [sys.executable, "-m", "web", "serve", "--port", str(port)]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(port, process)
        yield port, process.pid, database
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit("the server did not start")


async def read(session: aiohttp.ClientSession, port: int, seed: int) -> Reading:
    """Start one stream and read it to its end."""
    reading = Reading()
    start = {"type": "start", "id": "a", "prompt": "Once upon a time", "max_tokens": TOKENS, "seed": seed}
    try:
        async with session.ws_connect(f"http://127.0.0.1:{port}/ws", max_msg_size=0) as connection:
            began = last = time.perf_counter()
            await connection.send_json(start)
            async for frame in connection:
                message = json.loads(frame.data)
                now = time.perf_counter()
                if message["type"] == "text":
                    if reading.text:
                        reading.gaps_s.append(now - last)
                    else:
                        reading.first_s = now - began
                    reading.text += message["text"]
                    last = now
                elif message["type"] == "done":
                    reading.tokens, reading.duration_s = message["completion_tokens"], now - began
                    break
                elif message["type"] == "error":
                    reading.error = message["code"]
                    break
            else:
                reading.error = "closed"
    except (aiohttp.ClientError, OSError) as error:
        reading.error = type(error).__name__
    return reading


async def read_all(port: int, count: int, first_seed: int) -> tuple[list[Reading], float]:
    """All readings, and the seconds they took together."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        readings = await asyncio.gather(*(read(session, port, first_seed + number) for number in range(count)))
        return list(readings), time.perf_counter() - began


def differing(database: Path, readings: Sequence[Reading], first_seed: int) -> int:
    """How many texts are not exactly the completion that the log has under their seed."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT seed, completion FROM generations WHERE seed >= ?", (first_seed,)).fetchall()
    logged = dict(rows)
    once = len(rows) == len(logged) == len(readings)
    return sum(
        not once or (logged[first_seed + number] or "").replace("\x1b0", "\0").replace("\x1b1", "\x1b") != reading.text
        for number, reading in enumerate(readings)
    )


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def peak_memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--streams", type=int, nargs="*", default=STREAMS)
    chosen = options.parse_args()
    checkpoint = checkpoint_path(chosen.checkpoint)
    rows = []
    with tempfile.TemporaryDirectory() as folder, server(checkpoint, Path(folder)) as (port, pid, database):
        asyncio.run(read_all(port, 1, 0))  # everything is loaded
        for round, count in enumerate(chosen.streams, 1):
            first_seed = 10_000 * round
            readings, wall_s = asyncio.run(read_all(port, count, first_seed))
            gaps = [gap for reading in readings for gap in reading.gaps_s]
            firsts = [reading.first_s for reading in readings]
            speeds = [reading.tokens / reading.duration_s for reading in readings if reading.duration_s]
            rows.append(
                [
                    f"{count}",
                    sum(reading.tokens for reading in readings) / wall_s,
                    *(1e3 * percentile(firsts, share) for share in (0.5, 0.99)),
                    *(1e3 * percentile(gaps, share) for share in (0.5, 0.99)),
                    min(speeds, default=0.0),
                    sum(bool(reading.error) for reading in readings),
                    differing(database, readings, first_seed),
                    peak_memory_mb(pid),
                ]
            )
    heading(f"serve: {checkpoint.name}, {TOKENS} tokens a stream; times in ms, memory in MB")
    head = ("streams", "tokens/s", "first p50", "first p99", "gap p50", "gap p99")
    table((*head, "slowest, tokens/s", "errors", "differ from log", "server memory"), rows)
    print(
        "\nBars at 1,000: no error, none differs, none under 5 tokens/s, gap p99 under 1,000 ms, memory under 700 MB."
    )


if __name__ == "__main__":
    main()
