"""What one core serves, and how many cores a crowd needs: `python -m tests.benchmarks.capacity`.

Measured: the whole path from WebSocket to log row, on the real server with one thread, in processor time, which a busy
machine changes least. A step for B streams then costs `fixed_s` + B * `per_stream_s`.

Simulated with that curve: readers arrive at random, each goes to the emptier of two replicas drawn at random (as Ray
Serve does it), and a replica serves its streams at their pace or as fast as the curve allows. docs/scaling.md says what
follows.
"""

import argparse
import asyncio
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
import psutil

from core.engines import SHIPPED
from tests.faults.server import Server
from tests.faults.visitors import Told, write

TOKENS = 200  # of one continuation
PACE = 10.0  # tokens a second: about seven words, faster than most people read
TICK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the server did for some streams at once."""

    streams: int
    tokens: int
    steps: int
    processor_s: float
    memory_mb: float

    @property
    def batch(self) -> float:
        """Return the mean number of streams in a step."""
        return self.tokens / self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One core's service curve."""

    fixed_s: float
    per_stream_s: float
    slots: int = 1024

    @property
    def most_readers(self) -> int:
        """Return how many readers at PACE one replica keeps up with."""
        return int(min(self.slots, (1 / PACE - self.fixed_s) / self.per_stream_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What readers met: waits for the first token, and the share of reading time below PACE."""

    wait_p50_s: float
    wait_p99_s: float
    slowed_share: float


async def measure(server: Server, streams: int) -> Load:
    """Let `streams` visitors write TOKENS each, as fast as they come, and look at what that cost the server."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        sockets = [await session.ws_connect(f"{server.url}/ws") for _ in range(streams)]
        before, began = await server.metrics(), process.cpu_times()
        told = [Told(prompt=f"Once upon a time {number}") for number in range(streams)]
        await asyncio.gather(*(write(s, one, max_tokens=TOKENS) for s, one in zip(sockets, told, strict=True)))
        after, ended = await server.metrics(), process.cpu_times()
        unfinished = [(one.error, s.close_code) for s, one in zip(sockets, told, strict=True) if one.reason is None]
        assert not unfinished, f"{len(unfinished)} of {streams} streams did not finish: {set(unfinished)}"
        memory_mb = process.memory_info().rss / 2**20
        await asyncio.gather(*(socket.close() for socket in sockets))
    return Load(
        streams=streams,
        tokens=_grown("engine_tokens_total", before, after),
        steps=_grown("engine_steps_total", before, after),
        processor_s=ended.user + ended.system - began.user - began.system,
        memory_mb=memory_mb,
    )


def fit(loads: list[Load]) -> Replica:
    """Fit the curve to the measured loads, every load's relative error counting the same."""
    shape = np.array([[load.steps / load.processor_s, load.tokens / load.processor_s] for load in loads])
    (fixed_s, per_stream_s), *_ = np.linalg.lstsq(shape, np.ones(len(loads)), rcond=None)
    return Replica(fixed_s=float(fixed_s), per_stream_s=float(per_stream_s))


def simulate(
    replica: Replica, *, replicas: int, load: float, lost: int = 0, duration_s: float = 120, seed: int = 1
) -> Outcome:
    """Play readers at `load` times what the replicas keep up with; `lost` replicas die half way, the rest take over."""
    random = np.random.default_rng(seed)
    left = np.zeros((replicas, replica.slots))  # tokens to go; 0 = a free slot
    queues: list[list[float]] = [[] for _ in range(replicas)]  # when they came
    waits: list[float] = []
    read = slowed = 0.0
    alive = replicas
    arrivals = load * replicas * replica.most_readers * PACE / TOKENS * TICK_S
    for tick in range(int(duration_s / TICK_S)):
        now = tick * TICK_S
        if lost and alive == replicas and now >= duration_s / 2:
            alive -= lost
            orphans = left[alive:][left[alive:] > 0]
            left[alive:] = 0
            for tokens in orphans:
                number = int(random.integers(alive))
                left[number, np.argmin(left[number])] = tokens
        busy = (left > 0).sum(1) + [len(queue) for queue in queues]
        for _ in range(random.poisson(arrivals)):
            pair = random.integers(alive, size=2)
            chosen = pair[np.argmin(busy[pair])]
            busy[chosen] += 1
            queues[chosen].append(now)
        for number in range(alive):
            free = np.flatnonzero(left[number] == 0)[: len(queues[number])]
            left[number, free] = TOKENS * random.uniform(0.5, 1.5, len(free))
            step_s = replica.fixed_s + replica.per_stream_s * busy[number]
            if now >= duration_s / 2:
                waits += [now - came + step_s for came in queues[number][: len(free)]]
            del queues[number][: len(free)]
        streams = (left > 0).sum(1)
        rate = np.minimum(PACE, 1 / (replica.fixed_s + streams * replica.per_stream_s))
        if now >= duration_s / 2:
            read += float(streams.sum())
            slowed += float(streams[rate < 0.9 * PACE].sum())
        left = np.maximum(left - rate[:, None] * TICK_S, 0)
    p50, p99 = np.percentile(waits, [50, 99])
    return Outcome(wait_p50_s=float(p50), wait_p99_s=float(p99), slowed_share=slowed / read)


def _grown(name: str, before: dict[str, float], after: dict[str, float]) -> int:
    return sum(int(after[series] - before.get(series, 0)) for series in after if series.startswith(name))


async def _measure_all(checkpoints: Path) -> list[Load]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            Path(folder), checkpoints=checkpoints, database_url=f"sqlite:///{folder}/log.sqlite3", engine__threads="1"
        )
        async with server:
            await measure(server, 4)  # warms up
            return [await measure(server, streams) for streams in (1, 4, 16, 64, 256)]


def main() -> None:
    """Measure, simulate and print both tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.capacity", description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=SHIPPED, help="a folder that holds one checkpoint")
    loads = asyncio.run(_measure_all(parser.parse_args().checkpoints))
    print(f"{platform.processor() or platform.machine()}, one thread; the load generator runs beside it\n")
    print("| streams | mean batch | µs of a core a token | tokens/s a core | server memory MB |")
    print("|---:|---:|---:|---:|---:|")
    for load in loads:
        cost_s = load.processor_s / load.tokens
        rate = f"{cost_s * 1e6:.0f} | {1 / cost_s:.0f}"
        print(f"| {load.streams} | {load.batch:.1f} | {rate} | {load.memory_mb:.0f} |")
    replica = fit(loads)
    print(f"\na step for B streams: {replica.fixed_s * 1e3:.2f} ms + B * {replica.per_stream_s * 1e6:.0f} µs")
    print(f"readers at {PACE:.0f} tokens/s that a core keeps up with: {replica.most_readers}\n")
    print("| replicas | lost | load | wait p50 s | wait p99 s | reading time below pace |")
    print("|---:|---:|---:|---:|---:|---:|")
    for replicas, lost in ((1, 0), (8, 0), (8, 1), (32, 0), (32, 1)):
        for share in (0.5, 0.7, 0.8, 0.9, 0.95, 1.05):
            seen = simulate(replica, replicas=replicas, load=share, lost=lost)
            print(
                f"| {replicas} | {lost} | {share:.0%} | {seen.wait_p50_s:.2f} | {seen.wait_p99_s:.2f} "
                f"| {seen.slowed_share:.1%} |"
            )


if __name__ == "__main__":
    main()
