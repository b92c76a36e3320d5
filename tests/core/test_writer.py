"""Nobody is told that a text is done before its row is durable, and every end a stream can have is in the log.

Most engines here play scripted events, so that each end can be had at will; the first test uses the real one.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.engines import CheckpointSettings, Engines
from core.errors import BusyError, GenerationError, StoreError
from core.requests import (
    Event,
    Finished,
    GenerationRequest,
    Queued,
    SamplingDefaults,
    SamplingParams,
    Started,
    Text,
    sampling_params,
)
from core.store import Database, DatabaseSettings, LogSettings, Store
from core.tables import Generation
from core.writer import Writer

ROOT = Path(__file__).parents[2]
STARTED = Started(seed=7, checkpoint="tiny", prompt_tokens=3)
FINISHED = Finished(
    reason="stop", prompt_tokens=3, completion_tokens=2, time_to_first_token_s=0.25, duration_s=0.5, message=None
)
TOLD = [Queued(position=1, estimate_s=0.1), STARTED, Text(text=" upon", tokens=1), Text(text=" a", tokens=1), FINISHED]


class Script:
    """Engines with one engine, which gives events or raises errors as written."""

    def __init__(self, *lines: Event | Exception) -> None:
        self._lines = lines
        self.is_freed = False

    async def get(self, name: str | None = None) -> "Script":
        return self

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        try:
            for line in self._lines:
                if isinstance(line, Exception):
                    raise line
                yield line
        finally:
            self.is_freed = True


def request(**asked: object) -> GenerationRequest:
    return GenerationRequest(prompt="Once", sampling=sampling_params(SamplingDefaults(), **{"seed": 7} | asked))


@pytest.fixture
async def store(database_settings: DatabaseSettings) -> AsyncIterator[Store]:
    async with Store(database_settings, LogSettings(spool_mb=1)) as store:
        yield store


async def the_row(store: Store) -> Generation:
    (row,) = await store.log.rows()
    return row


async def test_a_text_can_be_written_again_from_its_row(store: Store, tiny_checkpoint: Path) -> None:
    async with Engines(CheckpointSettings(folders=(tiny_checkpoint.parent,))) as engines:
        writer = Writer(engines, store)
        asked = GenerationRequest(prompt="The fox", sampling=sampling_params(SamplingDefaults(), max_tokens=40))
        first = [event async for event in writer.write(asked, source="web")]
        row = await the_row(store)
        replayed = SamplingParams(
            **{name: getattr(row, name) for name in SamplingDefaults.model_fields}, seed=row.seed, stop=tuple(row.stop)
        )
        again = GenerationRequest(prompt=row.prompt, sampling=replayed)
        second = [event async for event in writer.write(again, source="api", checkpoint=row.checkpoint)]
    assert text_of(first) == text_of(second) == row.completion
    assert isinstance(first[-1], Finished)
    assert (row.prompt_tokens, row.completion_tokens) == (first[-1].prompt_tokens, first[-1].completion_tokens)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def test_the_row_is_in_the_database_when_finished_is_told(store: Store) -> None:
    async with contextlib.aclosing(Writer(Script(*TOLD), store).write(request(), source="web")) as events:
        async for event in events:
            if isinstance(event, Finished):
                assert (await the_row(store)).reason == "stop"
                break
        else:
            pytest.fail("never finished")


async def test_the_row_holds_the_whole_generation(store: Store) -> None:
    asked = request(temperature=0.5, top_k=40, stop=["\n"], max_tokens=9)
    writing = Writer(Script(*TOLD), store).write(asked, source="discord", user_key="u", guild_key="g", checkpoint="t")
    assert [event async for event in writing] == TOLD
    row = await the_row(store)
    assert (row.source, row.user_key, row.guild_key, row.checkpoint) == ("discord", "u", "g", "tiny")
    assert (row.prompt, row.completion, row.stop) == ("Once", " upon a", ["\n"])
    assert (row.temperature, row.top_k, row.top_p, row.max_tokens, row.seed) == (0.5, 40, 1.0, 9, 7)
    assert (row.prompt_tokens, row.completion_tokens, row.reason) == (3, 2, "stop")
    assert (row.time_to_first_token_s, row.duration_s, row.message) == (0.25, 0.5, None)


async def test_a_closed_stream_is_freed_and_logged_as_cancelled_with_what_it_wrote(store: Store) -> None:
    engines = Script(*TOLD)
    async with contextlib.aclosing(Writer(engines, store).write(request(), source="web")) as events:
        async for event in events:
            if event == TOLD[2]:
                break
    assert engines.is_freed
    row = await the_row(store)
    assert (row.reason, row.completion, row.completion_tokens) == ("cancelled", " upon", 1)
    assert row.duration_s is not None
    assert row.time_to_first_token_s is not None


async def test_a_cancelled_task_is_logged_as_cancelled(store: Store) -> None:
    is_writing = asyncio.Event()

    async def write() -> None:
        async for event in Writer(Script(*TOLD), store).write(request(), source="web"):
            if isinstance(event, Text):
                is_writing.set()
                await asyncio.sleep(60)

    task = asyncio.create_task(write())
    await is_writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    async with asyncio.timeout(20):  # the event loop closes the iterator that the task let go
        while not [row for row in await store.log.rows() if row.reason == "cancelled"]:  # noqa: ASYNC110 - polls the log
            await asyncio.sleep(0.01)


async def test_an_engines_error_is_logged_and_raised(store: Store) -> None:
    writing = Writer(Script(STARTED, Text(text=" upon", tokens=1), GenerationError("one stream failed")), store)
    with pytest.raises(GenerationError):
        _ = [event async for event in writing.write(request(), source="web")]
    row = await the_row(store)
    assert (row.reason, row.message, row.completion) == ("error", "one stream failed", " upon")


async def test_a_request_the_engine_refuses_is_no_generation(store: Store) -> None:
    with pytest.raises(BusyError):
        _ = [event async for event in Writer(Script(BusyError("full")), store).write(request(), source="web")]
    assert await store.log.rows() == []


async def test_text_that_may_not_be_kept_is_not(store: Store) -> None:
    writing = Writer(Script(*TOLD), store).write(request(stop=["\n"]), source="discord", keep_text=False)
    assert [event async for event in writing] == TOLD
    row = await the_row(store)
    assert (row.prompt, row.completion, row.stop) == (None, None, None)
    assert (row.completion_tokens, row.reason) == (2, "stop")


async def test_the_installation_can_forbid_keeping_text(store: Store) -> None:
    await store.settings.set("installation", keep_text=False)
    _ = [event async for event in Writer(Script(*TOLD), store).write(request(), source="web")]
    assert (await the_row(store)).prompt is None


async def test_the_configuration_can_forbid_keeping_text(database_settings: DatabaseSettings) -> None:
    async with Store(database_settings, LogSettings(spool_mb=1, keep_text=False)) as store:
        await store.settings.set("installation", keep_text=True)
        _ = [event async for event in Writer(Script(*TOLD), store).write(request(), source="web")]
        assert (await the_row(store)).completion is None


async def test_a_row_that_cannot_be_kept_is_never_told_as_finished(store: Store) -> None:
    told: list[Event] = []
    async with contextlib.aclosing(Writer(Script(*TOLD), store).write(request(), source="web")) as events:
        with pytest.raises(StoreError):  # noqa: PT012 - the disk must fail in the middle of the stream
            async for event in events:
                told.append(event)
                if event == TOLD[3]:
                    await break_database_and_spool(store)
    assert told == TOLD[:4]


async def break_database_and_spool(store: Store) -> None:
    async with store.database.write() as session:
        await session.execute(sa.text("ALTER TABLE generations RENAME TO elsewhere"))
    read_only = os.open(store.log._spool.path, os.O_RDONLY)
    os.dup2(read_only, store.log._spool._file)
    os.close(read_only)


CHILD = """
import asyncio, sys
from core.config import Config
from core.requests import Finished
from core.store import LogSettings, Store, DatabaseSettings
from core.writer import Writer
from tests.core.test_writer import TOLD, Script, request

async def write_one(writer):
    async for event in writer.write(request(), source="cli"):
        if isinstance(event, Finished):
            print("done", flush=True)

async def write_on():
    settings = DatabaseSettings(url=sys.argv[1], folder=sys.argv[2])
    async with Store(settings, LogSettings(spool_mb=1)) as store:
        writer = Writer(Script(*TOLD), store)
        while True:
            await asyncio.gather(*(write_one(writer) for _ in range(20)))

asyncio.run(write_on())
"""


def told_before_kill(settings: DatabaseSettings, folder: Path, *, kill_after: int) -> int:
    """Return how many generations a process told as finished before it was killed."""
    command = [sys.executable, "-c", CHILD, settings.url, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(kill_after):
            assert child.stdout.readline() == "done\n"
        child.send_signal(signal.SIGKILL)
        return kill_after + child.stdout.read().count("done\n")


async def test_kill_9_loses_nothing_that_was_told_as_finished(
    database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    told = 0
    for kill_after in (1, 33, 100):
        told += await asyncio.to_thread(told_before_kill, database_settings, tmp_path, kill_after=kill_after)
    async with Store(database_settings, LogSettings(spool_mb=1)) as store, store.database.read() as session:
        counted = await session.execute(sa.select(Generation.reason, sa.func.count()).group_by(Generation.reason))
        reasons = dict(tuple(row) for row in counted)
    assert reasons["stop"] >= told
    assert set(reasons) <= {"stop", "interrupted"}


async def test_writing_needs_no_database_that_answers_for_its_settings(store: Store) -> None:
    async with Database(
        DatabaseSettings(url="postgresql://127.0.0.1:1/none", folder=str(store.database.folder))
    ) as away:
        store.settings._database = away
        _ = [event async for event in Writer(Script(*TOLD), store).write(request(), source="web")]
    assert (await the_row(store)).prompt is None  # not known to be allowed
