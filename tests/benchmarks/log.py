"""What the log costs: `python -m tests.benchmarks.log [--rows N] [--streams N]`, on SQLite, or on DATABASE_URL.

Every stream finishes a row, waits until it is durable, and begins the next. Processor time is the cost that counts
beside an engine; the wait is what a reader sees between the last word and `done`.
"""

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import migrations
from core.store import DatabaseSettings, LogSettings, Store
from core.tables import Generation

PROMPT = "The dragon looked at the door for a long time. " * 10
COMPLETION = "Then it sighed, as dragons do, and knocked. " * 20  # about 200 tokens


def generation(name: str, reason: str) -> Generation:
    """Return a row of an ordinary size."""
    return Generation(
        request_id=name,
        writer_id="benchmark",
        started_at=datetime.now(UTC),
        source="web",
        user_key="0" * 64,
        checkpoint="fable",
        prompt=PROMPT,
        completion=COMPLETION,
        temperature=0.8,
        top_k=0,
        top_p=0.95,
        min_p=0.0,
        repetition_penalty=1.0,
        cache_strength=0.0,
        stop=[],
        max_tokens=200,
        seed=1,
        pace=0.0,
        prompt_tokens=150,
        completion_tokens=200,
        reason=reason,
        time_to_first_token_s=0.1,
        duration_s=10.0,
    )


async def write_rows(store: Store, names: list[str], waits_s: list[float]) -> None:
    """Play one stream."""
    for name in names:
        store.log.start(generation(name, "running"))
        began = time.perf_counter()
        await store.log.finish(generation(name, "length"))
        waits_s.append(time.perf_counter() - began)


async def measure(store: Store, *, rows: int, streams: int) -> str:
    """Return one line of the table."""
    before = store.log.stats().commits
    shares = [[f"{streams}-{number}" for number in range(stream, rows, streams)] for stream in range(streams)]
    waits_s: list[float] = []
    wall, processor = time.perf_counter(), time.process_time()
    await asyncio.gather(*(write_rows(store, names, waits_s) for names in shares))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    waits_s.sort()
    commits = store.log.stats().commits - before
    p50, p99 = (1000 * waits_s[int(share * (len(waits_s) - 1))] for share in (0.5, 0.99))
    return (
        f"{streams:>7} {rows / wall:>8.0f} {rows / commits:>12.1f} {1e6 * processor / rows:>15.0f} "
        f"{p50:>9.1f} {p99:>9.1f}"
    )


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Store]:
    """Give an empty store on DATABASE_URL, or on a temporary SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        url = os.environ.get("DATABASE_URL", f"sqlite:///{folder}/log.sqlite3")
        settings = DatabaseSettings(url=url, folder=folder)
        await migrations.upgrade(settings)
        async with Store(settings, LogSettings(spool_mb=1)) as store:
            print(f"{store.database}: every generation is started and finished, prompt and text kept")
            yield store


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.log", description=__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 10, 100, 1000])
    asked = parser.parse_args()
    async with opened() as store:
        print("streams   rows/s  rows/commit  processor µs/row  wait p50   p99 ms")
        for streams in asked.streams:
            print(await measure(store, rows=min(asked.rows, 200 * streams), streams=streams), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
