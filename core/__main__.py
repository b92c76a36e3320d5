"""`python -m core "Once upon a time"`: write on from a prompt, in the terminal, in a pipe, or as JSON lines.

Text goes to standard output as it is made; the seed and everything else that is not text goes to standard error.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config
from .errors import FablewrightError, StoreError
from .requests import Event, Finished, GenerationRequest, Limits, SamplingDefaults, Started, Text, sampling_params

if TYPE_CHECKING:
    from .store import Store
    from .writer import Stream

INTERRUPTED = 130  # what a shell expects after Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_write(options))
    except FablewrightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def _write(options: argparse.Namespace) -> int:
    config = Config(options.config)
    request = _request(options, config.table("sampling", SamplingDefaults))
    from .engine import EngineSettings  # these load torch, which bad input need not wait for
    from .engines import CheckpointSettings, Engines

    settings = config.table("engine", EngineSettings).model_copy(update={"shutdown_grace_s": 0.0, "slots": 1})
    engines = Engines(config.table("checkpoint", CheckpointSettings), settings, config.table("limits", Limits))
    async with contextlib.AsyncExitStack() as resources:
        await resources.enter_async_context(engines)
        engine = await engines.get(options.checkpoint)  # before the log: the two together need the most memory here
        store = await resources.enter_async_context(_log(config))
        if store is None:
            events: Stream = engine.generate(request)
        else:
            from .writer import Writer

            events = Writer(engines, store).write(request, source="cli", checkpoint=engine.name)
        await resources.enter_async_context(contextlib.aclosing(events))
        return await (_show_json(events) if options.json else _show_text(events, request))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core", description="Write on from a prompt.")
    parser.add_argument("prompt", nargs="?", help="how the story starts; read from standard input where left out")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="write at most N tokens")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 = always the likeliest token, up to 2")
    parser.add_argument("--top-k", type=int, metavar="K", help="keep the K likeliest tokens; 0 = off")
    parser.add_argument("--top-p", type=float, metavar="P", help="keep the likeliest tokens that hold P of the chance")
    parser.add_argument("--min-p", type=float, metavar="P", help="keep tokens at least P times as likely as the best")
    parser.add_argument("--repetition-penalty", type=float, metavar="R", help="1 = off, up to 2")
    parser.add_argument("--cache-strength", type=float, metavar="S", help="bring the text's own words back; 0 = off")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be given again")
    parser.add_argument("--seed", type=int, help="the same seed and prompt give the same text")
    parser.add_argument("--pace", type=float, default=0.0, metavar="N", help="tokens per second; 0 = at once")
    parser.add_argument("--checkpoint", metavar="NAME", help="the model to write with")
    parser.add_argument("--json", action="store_true", help="print one JSON line for each event")
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of config.toml in this folder")
    return parser


def _request(options: argparse.Namespace, defaults: SamplingDefaults) -> GenerationRequest:
    prompt = options.prompt
    if prompt is None:
        prompt = "" if sys.stdin.isatty() else sys.stdin.read()
    names = (*SamplingDefaults.model_fields, "stop", "seed")
    sampling = sampling_params(defaults, **{name: getattr(options, name) for name in names})
    return GenerationRequest(prompt=prompt, sampling=sampling, pace=options.pace)


@contextlib.asynccontextmanager
async def _log(config: Config) -> AsyncIterator["Store | None"]:
    """The prompt log where there is one; a terminal without a database writes all the same."""
    from .store import Store

    store = Store.open(config)
    if store.database.is_sqlite and not Path(store.database.url.database or "").exists():
        yield None
        return
    async with contextlib.AsyncExitStack() as resources:
        try:
            await resources.enter_async_context(store)
        except StoreError as error:
            print(f"not logged: {error}", file=sys.stderr)
            yield None
        else:
            yield store


async def _show_text(events: "Stream", request: GenerationRequest) -> int:
    if sys.stdout.isatty():
        print(request.prompt, end="", flush=True)
    began: Started | None = None
    status = 0
    try:
        async for event in events:
            match event:
                case Started():
                    began = event
                case Text():
                    print(event.text, end="", flush=True)
                case Finished():
                    print(flush=True)
                    print(_summary(event), end="", file=sys.stderr)
                    status = _status(event)
    except asyncio.CancelledError:
        print(flush=True)
        raise
    finally:
        if began is not None:
            print(f"seed {began.seed}, checkpoint {began.checkpoint}", file=sys.stderr)
    return status


async def _show_json(events: "Stream") -> int:
    status = 0
    async for event in events:
        line = {"type": type(event).__name__.lower()} | asdict(event)
        print(json.dumps(line, ensure_ascii=False), flush=True)
        status = _status(event)
    return status


def _status(event: Event) -> int:
    return 1 if isinstance(event, Finished) and event.reason == "error" else 0


def _summary(end: Finished) -> str:
    if end.message is not None:
        return f"{end.message}; "
    return f"{end.completion_tokens} tokens in {end.duration_s:.2f} s, ended by {end.reason}; "


if __name__ == "__main__":
    sys.exit(main())
