"""Many streams through the real engine: each writes what the plain loop writes, and none can disturb another."""

import asyncio
import contextlib
import copy
import dataclasses
import gc
import itertools
import math
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
import torch

from core.checkpoint import Checkpoint, CheckpointConfig
from core.decoder import Decoder
from core.engine import Engine, EngineSettings
from core.engines import AnyEngine
from core.errors import BusyError, ClosedError, GenerationError, InputError
from core.models import build_model
from core.products import Precision
from core.remote import RemoteEngine
from core.requests import (
    Event,
    Finished,
    GenerationRequest,
    Limits,
    Queued,
    SamplingDefaults,
    Started,
    Text,
    sampling_params,
)
from core.sampling import generate_plain
from core.tokenizer import Tokenizer
from core.writer import Stream
from tests.fixtures.ray_cluster import BACKENDS
from tests.tiny import TEXT

SMALL = EngineSettings(slots=4, batch=3, queue=2, prefill_chunk=4, threads=1, state_cache_mb=1, shutdown_grace_s=5.0)
PROMPT = "Once upon a time there was"


@pytest.fixture
async def local(tiny: Checkpoint) -> AsyncIterator[Engine]:
    """An engine to look into."""
    async with Engine(tiny, SMALL) as engine:
        yield engine


@pytest.fixture(params=BACKENDS)
async def engine(request: pytest.FixtureRequest, tiny: Checkpoint) -> AsyncIterator[AnyEngine]:
    """Every test that asks for one runs on an engine of this process and on a replica in a Ray cluster."""
    if request.param == "local":
        async with Engine(tiny, SMALL) as engine:
            yield engine
    else:
        address = request.getfixturevalue("ray_cluster").address
        one = {"backend": "ray", "ray_address": address, "ray_max_replicas": 1}
        async with RemoteEngine(tiny, SMALL.model_copy(update=one)) as remote:
            yield remote


def request(prompt: str = PROMPT, **asked: Any) -> GenerationRequest:
    outer = {name: asked.pop(name) for name in ("pace", "top_logprobs", "state", "given") if name in asked}
    asked = {"seed": 7, "max_tokens": 20} | asked
    return GenerationRequest(prompt=prompt, sampling=sampling_params(SamplingDefaults(), **asked), **outer)


async def read(generation: Stream) -> tuple[str, Finished]:
    events = [event async for event in generation]
    assert isinstance(events[-1], Finished)
    return "".join(event.text for event in events if isinstance(event, Text)), events[-1]


async def first(generation: Stream, kind: type[Event]) -> Event:
    return await anext(event async for event in generation if isinstance(event, kind))


def plain(checkpoint: Checkpoint, request: GenerationRequest, precision: Precision = "int8") -> str:
    """What the one-stream loop writes."""
    decoder = Decoder(checkpoint.model.recurrent_weights(), precision=precision)
    tokenizer = checkpoint.tokenizer
    prompt, begins_with_space = tokenizer.encode_prompt(request.prompt)
    first_ids = tokenizer.spaced_ids if begins_with_space else ()
    ids: list[int] = []
    for id in generate_plain(decoder, [tokenizer.document_id, *prompt], request.sampling, first_ids):
        if id == tokenizer.document_id:
            break
        ids.append(id)
    return tokenizer.decode(ids)[begins_with_space:]


async def all_slots_free(engine: AnyEngine) -> None:
    async with asyncio.timeout(20):
        while (stats := engine.snapshot()).running or stats.waiting:  # noqa: ASYNC110  (the worker tells nobody)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("seed", range(5))
async def test_a_space_at_the_prompts_end_belongs_to_the_first_word(
    engine: AnyEngine, tiny: Checkpoint, seed: int
) -> None:
    spaced, asked = PROMPT + " ", {"seed": seed, "temperature": 1.5, "top_logprobs": 3}
    events = [event async for event in engine.generate(request(spaced, **asked))]
    texts = [event for event in events if isinstance(event, Text)]
    text = "".join(event.text for event in texts)
    assert text == plain(tiny, request(spaced, **asked))
    assert not text.startswith(" ")
    first_token = texts[0].logprobs[0]
    assert text.startswith(first_token.text)
    assert sum(math.exp(other.logprob) for other in first_token.top) <= 1.0001
    assert isinstance(events[0], Started)
    assert events[0].prompt_tokens == len(tiny.tokenizer.encode(PROMPT))


async def test_a_stream_is_started_written_and_finished(engine: AnyEngine, tiny: Checkpoint) -> None:
    events = [event async for event in engine.generate(request(max_tokens=5))]
    count = len(tiny.tokenizer.encode(PROMPT))
    assert events[0] == Started(seed=7, checkpoint="tiny", prompt_tokens=count)
    assert sum(event.tokens for event in events if isinstance(event, Text)) == 5
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("length", count, 5)
    assert end.time_to_first_token_s is not None
    assert 0 < end.time_to_first_token_s <= end.duration_s


@pytest.mark.parametrize("precision", ["int8", "float32", "bfloat16"])
async def test_a_full_batch_writes_what_each_stream_writes_alone(tiny: Checkpoint, precision: Precision) -> None:
    requests = [
        request(PROMPT[: 3 * number], seed=number, temperature=0.5 + number / 10, repetition_penalty=1 + number % 2 / 5)
        for number in range(9)
    ]
    async with Engine(tiny, SMALL.model_copy(update={"precision": precision, "queue": 9})) as engine:
        together = await asyncio.gather(*(read(engine.generate(each)) for each in requests))
    assert [text for text, _ in together] == [plain(tiny, each, precision) for each in requests]


async def test_the_neural_cache_writes_the_same_alone_in_a_batch_and_from_cached_states(
    local: Engine, tiny: Checkpoint
) -> None:
    story = "the donkey walked up the hill and the fox sang " * 40  # more tokens than the cache looks back on
    asked = request(story, cache_strength=0.5, max_tokens=30)
    expected = plain(tiny, asked)
    together = await asyncio.gather(*(read(local.generate(each)) for each in (request(), asked, request(story))))
    assert together[1][0] == expected
    assert (await read(local.generate(asked)))[0] == expected
    assert local.snapshot().cache_hits
    assert expected != together[2][0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_neural_cache_of_full_strength_has_something_to_write_where_no_remembered_word_may_come(
    local: Engine, temperature: float
) -> None:
    """After a space at the prompt's end a word has to come, and all that was read is letters."""
    _, end = await read(local.generate(request("e ", cache_strength=1.0, temperature=temperature)))
    assert end.reason == "length", end.message


async def test_the_neural_cache_needs_the_text_and_not_a_state(engine: AnyEngine) -> None:
    state = await engine.export_state(PROMPT)
    with pytest.raises(InputError, match=r"cache_strength must be 0 with a state, got 0\.5"):
        await read(engine.generate(request("", state=state, cache_strength=0.5)))


async def test_the_same_request_gives_the_same_text_after_a_restart(tiny: Checkpoint) -> None:
    texts = []
    for _ in range(2):
        async with Engine(tiny, SMALL) as engine:
            texts.append((await read(engine.generate(request())))[0])
    assert texts[0] == texts[1] != ""


async def test_an_empty_prompt_begins_a_story(engine: AnyEngine) -> None:
    text, end = await read(engine.generate(request("")))
    assert text
    assert end.prompt_tokens == 0


async def test_a_prompt_of_unknown_bytes_is_written_on(engine: AnyEngine) -> None:
    _, end = await read(engine.generate(request("\U0001f9ff\U00013000\x01" * 5)))
    assert end.reason == "length"


async def test_a_long_prompt_is_encoded_aside_and_read_in_chunks(engine: AnyEngine, tiny: Checkpoint) -> None:
    long = request("the donkey walked down to the well " * 150)
    assert (await read(engine.generate(long)))[0] == plain(tiny, long)


async def test_a_stop_string_ends_the_text_and_is_no_part_of_it(engine: AnyEngine) -> None:
    whole, _ = await read(engine.generate(request(max_tokens=40)))
    stop = whole[10:14]
    text, end = await read(engine.generate(request(max_tokens=40, stop=(stop, "never seen"))))
    assert text == whole[: whole.index(stop)]
    assert end.reason == "stop"


async def test_a_stop_string_longer_than_the_output_holds_nothing_back(engine: AnyEngine) -> None:
    whole, _ = await read(engine.generate(request(max_tokens=10)))
    text, end = await read(engine.generate(request(max_tokens=10, stop=(whole + "and on it goes",))))
    assert (text, end.reason) == (whole, "length")


async def test_the_end_of_the_story_ends_the_stream(tiny: Checkpoint) -> None:
    model = copy.deepcopy(tiny.model)
    model.output_bias.data[tiny.tokenizer.document_id] = 100.0
    async with Engine(dataclasses.replace(tiny, model=model), SMALL) as engine:
        text, end = await read(engine.generate(request()))
    assert (text, end.reason, end.completion_tokens) == ("", "end", 0)


async def test_log_probabilities_come_with_every_token(engine: AnyEngine) -> None:
    events = [event async for event in engine.generate(request(max_tokens=6, top_logprobs=2))]
    logprobs = [logprob for event in events if isinstance(event, Text) for logprob in event.logprobs]
    assert len(logprobs) == 6
    assert all(x.logprob <= 0 and len(x.top) == 2 and x.top[0].logprob >= x.top[1].logprob for x in logprobs)
    plain_text, _ = await read(engine.generate(request(max_tokens=6)))
    assert "".join(event.text for event in events if isinstance(event, Text)) == plain_text


async def test_the_tokens_of_characters_of_several_bytes_join_to_the_text(tiny: Checkpoint) -> None:
    """This model writes almost nothing but the two bytes of é, in any order."""
    first, second = tiny.tokenizer.encode("é")
    model = copy.deepcopy(tiny.model)
    model.output_bias.data[[first, second]] = 20.0
    model.output_bias.data[tiny.tokenizer.document_id] = 10.0
    async with Engine(dataclasses.replace(tiny, model=model), SMALL) as engine:
        events = [event async for event in engine.generate(request(top_logprobs=3, min_p=0.1, max_tokens=40))]
    texts = [event for event in events if isinstance(event, Text)]
    tokens = [token for event in texts for token in event.logprobs]
    text = "".join(event.text for event in texts)
    assert "é" in text
    assert "".join(token.text for token in tokens) == text.removesuffix("\ufffd" * (tokens[-1].id == first))
    assert b"".join(token.bytes for token in tokens).decode("utf-8", "replace") == text
    assert {token.bytes for token in tokens} == {b"\xc3", b"\xa9"}
    for before, token in itertools.pairwise(tokens):
        chances = {other.bytes: other.text for other in token.top}
        is_half_done = before.bytes == b"\xc3"
        assert chances[b"\xa9"] == ("é" if is_half_done else "\ufffd")
        assert chances[b"\xc3"] == ("\ufffd\ufffd" if is_half_done else "\ufffd")
        assert chances[b""] == ""  # the end of the story


async def test_a_full_engine_queues_then_refuses(engine: AnyEngine) -> None:
    running = [engine.generate(request(pace=5)) for _ in range(4)]
    for generation in running:
        await first(generation, Started)
    waiting = [engine.generate(request()) for _ in range(2)]
    news = [await first(generation, Queued) for generation in waiting]
    assert [event.position for event in news if isinstance(event, Queued)] == [1, 2]
    assert all(event.estimate_s > 0 for event in news if isinstance(event, Queued))
    with pytest.raises(BusyError, match="all 4 slots are taken and 2 streams are waiting"):
        await read(engine.generate(request()))
    await running[0].aclose()
    await first(waiting[0], Started)
    for generation in [*running, *waiting]:
        await generation.aclose()
    await all_slots_free(engine)


async def test_closing_a_stream_frees_its_slot_and_gives_no_more_events(engine: AnyEngine) -> None:
    generation = engine.generate(request(max_tokens=4000))
    await first(generation, Text)
    await generation.aclose()
    assert [event async for event in generation] == []
    await all_slots_free(engine)


async def test_a_reader_that_is_cancelled_frees_its_slot(engine: AnyEngine) -> None:
    reader = asyncio.create_task(read(engine.generate(request(max_tokens=4000, pace=10))))
    await asyncio.sleep(0.05)
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    await all_slots_free(engine)


async def test_a_reader_that_forgets_its_stream_frees_its_slot(engine: AnyEngine) -> None:
    generation = engine.generate(request(max_tokens=4000, pace=10))
    await first(generation, Started)
    del generation
    await all_slots_free(engine)


async def test_a_reader_that_is_cancelled_between_two_events_frees_its_slot(engine: AnyEngine) -> None:
    async def read_slowly() -> None:
        async for _ in engine.generate(request(max_tokens=4000)):
            reading.set()
            await asyncio.Event().wait()

    reading = asyncio.Event()
    reader = asyncio.create_task(read_slowly())
    await reading.wait()
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    await all_slots_free(engine)


async def test_ten_thousand_starts_and_stops_leak_nothing(local: Engine) -> None:
    async def start_and_stop(count: int) -> None:
        for number in range(count):
            try:
                generation = local.generate(request())
            except BusyError:
                await all_slots_free(local)
                continue
            if number % 3 == 0:
                await first(generation, Started)
            await generation.aclose()
        await all_slots_free(local)

    await expect_no_growth(local, start_and_stop)


async def test_ten_thousand_streams_leak_nothing(local: Engine) -> None:
    async def read_to_the_end(count: int) -> None:
        for seed in range(0, count, 5):
            generations = [local.generate(request("Once", seed=seed + n, max_tokens=1)) for n in range(5)]
            await asyncio.gather(*map(read, generations))

    await expect_no_growth(local, read_to_the_end)


async def expect_no_growth(engine: Engine, use: Callable[[int], Awaitable[None]]) -> None:
    """Use an engine 10,000 times: afterwards all slots are free, and memory is what it was after the first 2,000."""
    await use(2000)
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), psutil.Process().memory_info().rss
    await use(8000)
    await all_slots_free(engine)
    async with asyncio.timeout(20):
        while engine._open or engine._readers:  # noqa: ASYNC110 -- no event tells of the last one
            await asyncio.sleep(0.01)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 4000, "half a Python object a stream"
    assert psutil.Process().memory_info().rss - memory < 8 * 2**20, "a kilobyte a stream"
    assert sorted(engine._worker._free_slots) == [0, 1, 2, 3]  # type: ignore[union-attr]


async def test_a_reader_that_falls_behind_pauses_only_itself(local: Engine) -> None:
    lazy = local.generate(request(max_tokens=2000))
    await first(lazy, Started)
    await asyncio.sleep(0.5)
    made = lazy._stream.generated
    assert made <= 600
    _, end = await read(local.generate(request(max_tokens=30)))
    assert end.reason == "length"
    _, end = await read(lazy)
    assert end.completion_tokens == 2000


async def test_a_paced_stream_is_written_at_its_pace(engine: AnyEngine, tiny: Checkpoint) -> None:
    text, end = await read(engine.generate(request(max_tokens=11, pace=50)))
    assert end.duration_s > 0.19  # ten gaps of 20 ms: a lower bound only, the machine may be slow
    assert text == plain(tiny, request(max_tokens=11))


@pytest.mark.parametrize("rest_s", [1e10, math.inf])
async def test_a_rest_longer_than_a_thread_can_wait_ends_when_something_comes(local: Engine, rest_s: float) -> None:
    distant = local.generate(request(pace=0.5))
    await first(distant, Text)
    distant._stream.due_at += rest_s
    _, end = await read(local.generate(request()))
    assert end.reason == "length"
    closing = asyncio.create_task(local.close(rest_s))
    await distant.aclose()
    await closing


async def test_numbers_that_overflow_end_one_stream_with_an_error(local: Engine, tiny: Checkpoint) -> None:
    sound, broken = local.generate(request(pace=100)), local.generate(request(pace=100, max_tokens=4000))
    await first(broken, Text)
    worker = local._worker
    assert worker is not None
    stream = broken._stream
    worker._decoder.write_state(stream.slot, worker._decoder.read_state(stream.slot) * float("nan"))
    _, end = await read(broken)
    assert end.reason == "error"
    assert end.message is not None
    text, _ = await read(sound)
    assert text == plain(tiny, request())
    assert (await read(local.generate(request())))[0] == plain(tiny, request()), "the slot is sound again"


async def test_a_step_that_fails_ends_each_stream_once(local: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = local._worker
    assert worker is not None
    receive, step = worker._receive, worker._step
    all_are_there, batches = threading.Event(), []

    def receive_all() -> None:
        all_are_there.wait()
        receive()

    def fail_for_the_second(rows: list[Any]) -> None:
        batches.append(len(rows))
        if len(batches) == 2:
            raise MemoryError
        step(rows)

    monkeypatch.setattr(worker, "_step", fail_for_the_second)
    monkeypatch.setattr(worker, "_receive", receive_all)
    streams = [local.generate(request(max_tokens=1)) for _ in range(4)]
    all_are_there.set()
    ends = [end.reason for _, end in await asyncio.gather(*map(read, streams))]
    assert (batches, sorted(ends)) == ([3, 1], ["error", "length", "length", "length"])
    stats = local.snapshot()
    assert (stats.finished, stats.failed) == (4, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_an_engine_that_dies_leaves_nobody_waiting(local: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    running = local.generate(request(pace=100, max_tokens=4000))
    await first(running, Text)
    worker = local._worker
    assert worker is not None
    monkeypatch.setattr(worker, "_deliver", Mock(side_effect=MemoryError))
    _, end = await read(running)
    await asyncio.to_thread(worker._thread.join)
    assert (end.reason, end.message) == ("error", "the engine has stopped; please try again")
    with pytest.raises(ClosedError):
        local.generate(request())
    with pytest.raises(ClosedError):
        await local.export_state("Once")


async def test_a_state_goes_on_as_if_the_stream_had_never_stopped(local: Engine, tiny: Checkpoint) -> None:
    asked = {"repetition_penalty": 1.2, "temperature": 1.0}
    generation = local.generate(request(max_tokens=15, **asked))
    head, _ = await read(generation)
    state = generation.export_state()
    async with Engine(tiny, SMALL) as another:
        tail, _ = await read(another.generate(request("", state=state, max_tokens=25, **asked)))
    assert head + tail == plain(tiny, request(max_tokens=40, **asked))


async def test_the_state_of_a_text_goes_on_like_the_text(engine: AnyEngine, tiny: Checkpoint) -> None:
    state = await engine.export_state(PROMPT)
    text, _ = await read(engine.generate(request("", state=state)))
    assert text == plain(tiny, request())
    assert len(state) < 4000


@pytest.mark.parametrize(
    "asked", [{}, {"stop": [" the "], "max_tokens": 60}, {"repetition_penalty": 1.3}, {"max_tokens": 3}]
)
async def test_a_text_goes_on_from_any_of_its_tokens(engine: AnyEngine, asked: dict[str, Any]) -> None:
    events = [event async for event in engine.generate(request(pace=500, **asked))]
    texts, finished = [event for event in events if isinstance(event, Text)], events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == ("stop" if "stop" in asked else "length")
    for told in range(len(texts) + 1):
        given = tuple(id for text in texts[:told] for id in text.ids)
        rest, end = await read(engine.generate(request(given=given, **asked)))
        assert rest == "".join(text.text for text in texts[told:])
        assert (end.reason, end.completion_tokens) == (finished.reason, finished.completion_tokens)


async def test_only_a_stream_that_ended_after_a_token_has_a_state(local: Engine) -> None:
    generation = local.generate(request())
    with pytest.raises(GenerationError, match="ended right after a token"):
        generation.export_state()


@pytest.mark.parametrize("damage", [b"", b"hello", b"FWS2" * 40])
async def test_a_damaged_state_is_refused(engine: AnyEngine, damage: bytes) -> None:
    with pytest.raises(InputError, match="state must be an exported stream state"):
        await read(engine.generate(request(state=damage)))


async def test_a_state_of_another_precision_is_refused(local: Engine, tiny: Checkpoint) -> None:
    state = await local.export_state(PROMPT)
    async with Engine(tiny, SMALL.model_copy(update={"precision": "float32"})) as other:
        with pytest.raises(InputError, match="from this checkpoint at this precision"):
            other.generate(request(state=state))


async def test_a_known_prefix_is_not_read_again(local: Engine, tiny: Checkpoint) -> None:
    story = "the donkey walked up the hill " * 20
    await read(local.generate(request(story)))
    before = local.snapshot().prompt_tokens_cached
    longer = request(story + "and sang")
    text, _ = await read(local.generate(longer))
    stats = local.snapshot()
    assert stats.cache_hits >= 1
    assert stats.prompt_tokens_cached - before > len(tiny.tokenizer.encode(story)) - 70
    assert text == plain(tiny, longer)


async def test_a_request_over_the_limits_is_refused(tiny: Checkpoint) -> None:
    async with Engine(tiny, SMALL, Limits(max_tokens=10, max_prompt_bytes=20)) as engine:
        with pytest.raises(InputError, match=r"max_tokens must be in \[1, 10\], got 20"):
            engine.generate(request("Once"))
        with pytest.raises(InputError, match="prompt must be at most 20 bytes, got 26"):
            engine.generate(request(max_tokens=5))


async def test_a_closing_engine_lets_streams_finish_and_refuses_new_ones(engine: AnyEngine) -> None:
    running = engine.generate(request(pace=100))
    await first(running, Started)
    closing = asyncio.create_task(engine.close(30.0))
    await asyncio.sleep(0)
    with pytest.raises(ClosedError):
        await read(engine.generate(request()))
    _, end = await read(running)
    assert end.reason == "length"
    await closing


async def test_a_closing_engine_lets_streams_finish_that_wait_or_have_only_come(engine: AnyEngine) -> None:
    readers = [asyncio.create_task(read(engine.generate(request(pace=100)))) for _ in range(5)]  # one of them waits
    await asyncio.sleep(0)
    await engine.close(30.0)
    assert [end.reason for _, end in await asyncio.gather(*readers)] == ["length"] * 5


async def test_a_closing_engine_takes_no_thread_that_others_need(local: Engine) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    running = local.generate(request(pace=10, max_tokens=600))
    await first(running, Started)
    closing = asyncio.create_task(local.close(math.inf))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await asyncio.to_thread(str)
    assert not closing.done()
    await running.aclose()
    await closing


async def test_whoever_gives_up_waiting_for_an_engine_to_close_ends_no_stream(local: Engine) -> None:
    reading = asyncio.create_task(read(local.generate(request(pace=20))))
    await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(local.close(math.inf), 0.05)
    _, end = await reading
    assert end.reason == "length"
    await local.close()


async def test_a_prompt_that_is_still_being_encoded_ends_with_a_reason_too(local: Engine) -> None:
    generation = local.generate(request("the donkey walked down to the well " * 3000))
    await local.close(0)
    _, end = await read(generation)
    assert end.reason == "shutdown"


async def test_after_the_grace_period_streams_end_with_a_reason(engine: AnyEngine) -> None:
    readers = [asyncio.create_task(read(engine.generate(request(pace=2)))) for _ in range(5)]  # one of them waits
    await asyncio.sleep(0.05)
    await engine.close(0.05)
    assert [end.reason for _, end in await asyncio.gather(*readers)] == ["shutdown"] * 5


@pytest.mark.parametrize("asked", [{"temperature": 0.0}, {"temperature": 1.0}, {"cache_strength": 0.9}])
async def test_a_closed_vocabulary_never_writes_what_stands_for_unknown_words(asked: dict[str, Any]) -> None:
    """This model thinks of nothing but `<unk>`, and has read it in the prompt."""
    torch.manual_seed(1)
    tokenizer = Tokenizer.train([TEXT], vocab_size=150, kind="word")
    sizes = {"vocab_size": tokenizer.vocab_size, "document_id": tokenizer.document_id, "embedding_size": 8}
    model = build_model("lstm", sizes | {"hidden_size": 8, "layers": 1, "dropout": 0.0}).eval()
    model.output_bias.data[tokenizer.unknown_id] = 20.0
    config = CheckpointConfig(architecture="lstm", model=sizes)
    checkpoint = Checkpoint(name="words", path=Path(), model=model, tokenizer=tokenizer, config=config)
    prompt = "the donkey and the xylophone and the dragon"
    assert tokenizer.unknown_id in tokenizer.encode(prompt)
    async with Engine(checkpoint, SMALL) as engine:
        text, finished = await read(engine.generate(request(prompt, max_tokens=40, **asked)))
    assert finished.completion_tokens > 0
    assert text
    assert "<unk>" not in text
