"""Time to the first new token when a story is continued: with the state cache, from an exported state, and without.

The story is the checkpoint's own, cut to a number of tokens; what continues it is one more sentence. The bar compares
5,000 tokens with 10, both with the cache.
"""

import asyncio
import statistics
import time

from core.checkpoint import Checkpoint
from core.engine import Engine, EngineSettings
from core.requests import GenerationRequest, SamplingDefaults, Text, sampling_params

from .table import heading, load, parser, table

LENGTHS = (10, 100, 1000, 5000)
NEXT = " And then they walked on."
REPEATS = 9


async def first_token_s(engine: Engine, prompt: str, state: bytes | None = None) -> float:
    """Seconds from the request to its first text."""
    params = sampling_params(SamplingDefaults(), max_tokens=1, seed=1)
    began = time.perf_counter()
    async for event in engine.generate(GenerationRequest(prompt=prompt, sampling=params, state=state)):
        if isinstance(event, Text):
            break
    return time.perf_counter() - began


async def write_story(engine: Engine) -> str:
    params = sampling_params(SamplingDefaults(temperature=1.0), max_tokens=4000, seed=3)
    story = ""
    while len(engine.tokenizer.encode(story)) < max(LENGTHS):
        events = engine.generate(GenerationRequest(prompt=story or "Once upon a time", sampling=params))
        story += "".join([event.text async for event in events if isinstance(event, Text)])
    return story


async def measure(checkpoint: Checkpoint, threads: int) -> list[list[str | float]]:
    settings = EngineSettings(threads=threads)
    forgetful = settings.model_copy(update={"state_cache_mb": 0})
    rows: list[list[str | float]] = []
    async with Engine(checkpoint, settings) as engine, Engine(checkpoint, forgetful) as without:
        ids = engine.tokenizer.encode(await write_story(engine))
        for length in LENGTHS:
            story = engine.tokenizer.decode(ids[:length])
            state = await engine.export_state(story)
            await first_token_s(engine, story)  # somebody wrote this far
            times: tuple[list[float], ...] = ([], [], [])
            for number in range(REPEATS if length < 5000 else 5):
                new = f"{NEXT} {number}"
                times[0].append(await first_token_s(engine, story + new))
                times[1].append(await first_token_s(engine, new, state))
                times[2].append(await first_token_s(without, story + new))
            rows.append([f"{length}", *(1e3 * statistics.median(each) for each in times), len(state) / 1024])
    return rows


def main() -> None:
    chosen = parser(__doc__).parse_args()
    checkpoint = load(chosen.checkpoint)
    checkpoint.model.output_bias.data[checkpoint.tokenizer.document_id] = -100.0  # a long story, please
    rows = asyncio.run(measure(checkpoint, chosen.threads))
    heading(f"resume: {checkpoint.name}, milliseconds to the first new token")
    table(("story, tokens", "state cache", "exported state", "without", "state, KiB"), rows)
    shortest, longest = float(rows[0][1]), float(rows[-1][1])
    print(f"\n5,000 tokens against 10, with the cache: {longest / shortest:.1f} x (bar: under 5 x)")


if __name__ == "__main__":
    main()
