"""How fast the bot answers: the real process against the fake Discord, many commands at one instant.

python -m tests.benchmarks.discord_bot [--checkpoint FOLDER] [--count 50] [--rounds 4]
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_world import Channel, Interaction, Person
from tests.tiny import make_tiny_checkpoint

ROOT = Path(__file__).parents[2]


async def measure(checkpoint: Path, *, count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with FakeDiscord() as fake:
            channel, people = fake.channel(), [fake.person(f"person {index}") for index in range(count)]
            process = await start(fake, checkpoint, Path(folder))
            try:
                await fake.until(lambda: fake.gateway.is_connected and fake.commands, timeout_s=120)
                alone = await first_text_s(fake, people[0], channel)
                acknowledged, whole_s = [], []
                for _ in range(rounds):
                    began = time.perf_counter()
                    stories = [await write(fake, person, channel) for person in people]
                    await fake.until(lambda stories=stories: all(map(stands, stories)), timeout_s=300)
                    whole_s.append(time.perf_counter() - began)
                    acknowledged += [story.acknowledged_after_s or 0.0 for story in stories]
            finally:
                process.terminate()
                await process.wait()
    report(acknowledged, alone, whole_s, fake, count)


async def start(fake: FakeDiscord, checkpoint: Path, folder: Path) -> asyncio.subprocess.Process:
    environment = os.environ | {
        "DISCORD_TOKEN": fake.token,
        "DISCORD_API_URL": fake.api_url,
        "DISCORD_GATEWAY_URL": fake.gateway_url,
        "DATABASE_URL": f"sqlite:///{folder}/bench.sqlite3",
        "FABLEWRIGHT_CHECKPOINT__FOLDERS": json.dumps([str(checkpoint.parent)]),
        "FABLEWRIGHT_CHECKPOINT__NAME": checkpoint.name,
    }
    command = [sys.executable, "-m", "bot"]
    return await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL)


async def write(fake: FakeDiscord, person: Person, channel: Channel, length: int = 60) -> Interaction:
    return await fake.slash(person, channel, "write", prompt="Once upon a time", length=length)


async def first_text_s(fake: FakeDiscord, person: Person, channel: Channel) -> float:
    """Return how long one person alone waits for the first words."""
    story = await write(fake, person, channel)
    shown_prompt = "**Once upon a time**"
    await fake.until(lambda: story.original and len(story.reply.content.split("\n-# ")[0]) > len(shown_prompt))
    waited_s = time.perf_counter() - story.sent_at
    await fake.until(lambda: stands(story), timeout_s=60)
    return waited_s


def stands(story: Interaction) -> bool:
    return bool(story.messages) and "Continue" in story.messages[-1].buttons


def report(acknowledged: list[float], alone_s: float, whole_s: list[float], fake: FakeDiscord, count: int) -> None:
    ordered = sorted(acknowledged)

    def percentile(share: float) -> float:
        return ordered[min(len(ordered) - 1, round(share * len(ordered)))]

    edits = len(fake.requests("PATCH", "/messages/"))
    print(f"{count} commands at one instant, {len(ordered)} in all")
    print(
        f"  acknowledged after    p50 {percentile(0.5):.3f} s   p99 {percentile(0.99):.3f} s   max {ordered[-1]:.3f} s"
    )
    print(f"  first words, alone    {alone_s:.3f} s")
    print(f"  all stories complete  {', '.join(f'{seconds:.1f}' for seconds in whole_s)} s")
    print(f"  edits {edits}, answers of status 429: {sum(request.status == 429 for request in fake.rest.requests)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.discord_bot", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint's folder; a tiny one is trained when left out")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint or make_tiny_checkpoint(Path(folder) / "tiny")
        asyncio.run(measure(checkpoint, count=arguments.count, rounds=arguments.rounds))


if __name__ == "__main__":
    main()
