"""A stream keeps what it has said, for readers that come late, in the middle or again."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from core.errors import BusyError, InputError
from core.requests import Candidate, Event, Finished, Started, Text, TokenLogprob
from tests.web.conftest import eventually
from web.streams import KeptStreams, Opened, Reader, Stream

WORDS = ("Once ", "upon ", "", "a ", "time")
FINISHED = Finished(reason="length", prompt_tokens=1, completion_tokens=5, time_to_first_token_s=0.0, duration_s=0.0)


def opened(events: AsyncGenerator[Event, None]) -> Opened:
    return Opened(seed=1, checkpoint="tiny", events=events, novelty=None)


async def words() -> AsyncGenerator[Event, None]:
    yield Started(seed=1, checkpoint="tiny", prompt_tokens=1)
    for word in WORDS:
        yield Text(text=word, tokens=1)
        await asyncio.sleep(0)
    yield FINISHED


async def for_ever() -> AsyncGenerator[Event, None]:
    yield Started(seed=1, checkpoint="tiny", prompt_tokens=1)
    while True:
        yield Text(text="on ", tokens=1)
        await asyncio.sleep(0.01)


def start(events: AsyncGenerator[Event, None], *, resumable: bool = True) -> Stream:
    async def open_stream() -> Opened:
        return opened(events)

    return Stream(open_stream, resumable=resumable)


@pytest.mark.parametrize("received", range(len("Once upon a time") + 1))
async def test_a_reader_may_begin_anywhere(received: int) -> None:
    stream = start(words())
    await stream.wait()
    piece = Reader(stream, received=received).take()
    assert (piece.text if piece else "") == "Once upon a time"[received:]
    assert stream.finished == FINISHED


async def test_a_reader_takes_nothing_twice() -> None:
    for resumable in (True, False):
        stream = start(words(), resumable=resumable)
        reader, texts = Reader(stream), []
        for _ in range(20):
            if piece := reader.take():
                texts.append(piece.text)
            await asyncio.sleep(0)
        assert "".join(texts) == "Once upon a time"
        assert len(texts) > 1
        assert reader.take() is None


async def test_a_reader_cannot_have_received_what_was_not_written() -> None:
    stream = start(words())
    await stream.wait()
    with pytest.raises(InputError, match="received must be at most the 16 characters written, got 17"):
        Reader(stream, received=17)


async def test_a_stopped_stream_counts_what_it_wrote() -> None:
    stream = start(for_ever())
    await eventually(lambda: stream.written >= 9)
    stream.stop()
    await stream.wait()
    await asyncio.sleep(0)
    assert stream.finished is not None
    assert stream.finished.reason == "cancelled"
    assert stream.finished.completion_tokens == stream.written // 3


async def test_what_opening_refuses_becomes_the_streams_error() -> None:
    async def refuse() -> Opened:
        raise BusyError("the queue is full")

    stream = Stream(refuse, resumable=False)
    heard = asyncio.Event()
    stream.on_news = heard.set
    await asyncio.wait_for(heard.wait(), 5)
    assert isinstance(stream.error, BusyError)


async def test_a_kept_stream_is_stopped_when_its_time_is_up_unless_somebody_came_back() -> None:
    kept = KeptStreams(keep_s=0.1)
    left, taken_again = start(for_ever()), start(for_ever())
    for stream in (left, taken_again):
        kept.hold(stream)
        kept.release(stream)
    assert kept.get(left.key) is left  # to look is not to listen
    assert kept.get(taken_again.key) is taken_again
    kept.hold(taken_again)
    await asyncio.wait_for(left.wait(), 5)
    assert len(kept) == 1
    assert kept.get(left.key) is None
    assert taken_again.finished is None
    kept.close()
    await asyncio.wait_for(taken_again.wait(), 5)


async def test_no_more_than_so_much_is_kept_of_streams_that_nobody_listens_to() -> None:
    async def many_words() -> AsyncGenerator[Event, None]:
        top = tuple(Candidate(text=f"word{number}", bytes=b"word", logprob=-number / 7) for number in range(20))
        for number in range(200):
            token = TokenLogprob(text="word", bytes=b"word", logprob=-number / 3, id=number, top=top)
            yield Text(text="word", tokens=1, logprobs=(token,))

    streams = [start(many_words()) for _ in range(5)]
    for stream in streams:
        await stream.wait()
    each = streams[0].kept_bytes
    assert 200 * 20 * 100 < each < 200 * 25 * 200
    kept = KeptStreams(keep_s=60, most_bytes=2 * each)
    for stream in streams:
        kept.hold(stream)
    for number in (1, 2, 0, 3):  # the last is listened to still
        kept.release(streams[number])
    await eventually(lambda: len(kept) == 3)
    assert [kept.get(stream.key) is not None for stream in streams] == [True, False, False, True, True]
    kept.close()


async def test_no_more_streams_are_kept_than_there_is_room_for() -> None:
    kept = KeptStreams(keep_s=60, most=2)
    streams = [start(for_ever()) for _ in range(3)]
    for stream in streams:
        kept.hold(stream)
    await asyncio.wait_for(streams[0].wait(), 5)
    assert [kept.get(stream.key) is not None for stream in streams] == [False, True, True]
    kept.close()
    for stream in streams:
        await stream.wait()
