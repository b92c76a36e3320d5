"""What the log costs: `python -m tests.benchmarks.log`, on a temporary SQLite file, or on DATABASE_URL.

First alone: every stream finishes a row, waits until it is durable, and begins the next. Then beside the engine: 1,000
streams straight from the engine, and 1,000 through the writer, which logs them, by turns. Processor time is the measure
that a busy machine changes least; the wait is what a reader sees between the last word and `done`.
"""

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import migrations
from core.engine import EngineSettings
from core.engines import SHIPPED, CheckpointSettings, Engines
from core.requests import Event, Finished, GenerationRequest, SamplingDefaults, sampling_params
from core.store import DatabaseSettings, LogSettings, Store
from core.tables import Generation
from core.writer import Writer

PROMPT = "The dragon looked at the door for a long time. " * 10
COMPLETION = "Then it sighed, as dragons do, and knocked. " * 20  # about 200 tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Tokens, and the time they took."""

    tokens: int = 0
    wall_s: float = 0.0
    processor_s: float = 0.0

    @property
    def per_token_s(self) -> float:
        """Return the processor time of one token."""
        return self.processor_s / self.tokens


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


async def read(events: AsyncIterator[Event]) -> int:
    """Read a stream to its end; return its tokens."""
    tokens = 0
    async for event in events:
        if isinstance(event, Finished):
            tokens = event.completion_tokens
    return tokens


async def crowd(start: Callable[[GenerationRequest], AsyncIterator[Event]], *, streams: int, tokens: int) -> Cost:
    """Run streams at once and return what a token cost."""
    sampling = [sampling_params(SamplingDefaults(), seed=seed, max_tokens=tokens) for seed in range(streams)]
    wall, processor = time.perf_counter(), time.process_time()
    made = await asyncio.gather(*(read(start(GenerationRequest(prompt=PROMPT[:47], sampling=s))) for s in sampling))
    return Cost(tokens=sum(made), wall_s=time.perf_counter() - wall, processor_s=time.process_time() - processor)


async def beside_the_engine(store: Store, checkpoint: Path, *, rounds: int, streams: int, tokens: int) -> None:
    """Print the cost of a token with and without the log."""
    settings = CheckpointSettings(folders=(checkpoint.parent,), name=checkpoint.name)
    async with Engines(settings, EngineSettings(slots=streams, threads=1)) as engines:
        engine, writer = await engines.get(), Writer(engines, store)
        ways: dict[str, Callable[[GenerationRequest], AsyncIterator[Event]]] = {
            "engine": engine.generate,
            "logged": lambda request: writer.write(request, source="api"),
        }
        for start in ways.values():
            await crowd(start, streams=streams, tokens=tokens)  # warms up
        print(f"\n{checkpoint.name}, one thread, {streams} streams of {tokens} tokens, {rounds} rounds by turns")
        print("tokens/s: engine  logged  | processor µs/token: engine  logged")
        costs: list[dict[str, Cost]] = []
        for _ in range(rounds):
            costs.append({way: await crowd(start, streams=streams, tokens=tokens) for way, start in ways.items()})
            rates = " ".join(f"{cost.tokens / cost.wall_s:>7.0f}" for cost in costs[-1].values())
            loads = " ".join(f"{1e6 * cost.per_token_s:>7.1f}" for cost in costs[-1].values())
            print(f"          {rates}  |                    {loads}", flush=True)
    processor = median(pair["logged"].per_token_s / pair["engine"].per_token_s for pair in costs) - 1
    wall = 1 - median(pair["engine"].wall_s / pair["logged"].wall_s for pair in costs)
    print(f"median of the rounds: the log takes {processor:+.1%} of processor time, {wall:+.1%} of throughput")


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
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.log", description=__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--checkpoint", type=Path, help="default: the one that ships")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=200)
    asked = parser.parse_args()
    async with opened() as store:
        print("streams   rows/s  rows/commit  processor µs/row  wait p50   p99 ms")
        for streams in (1, 10, 100, 1000):
            print(await measure(store, rows=min(asked.rows, 200 * streams), streams=streams), flush=True)
        checkpoint = asked.checkpoint or SHIPPED / Engines(CheckpointSettings()).default_name
        await beside_the_engine(store, checkpoint, rounds=asked.rounds, streams=1000, tokens=asked.tokens)


if __name__ == "__main__":
    asyncio.run(main())
