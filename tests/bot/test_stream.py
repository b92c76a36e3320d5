"""One generation as its reply sees it."""

import logging
from collections.abc import AsyncGenerator

import pytest

from bot.stream import Stream
from core.requests import Event, Queued, Text


async def _failing_after(*events: Event) -> AsyncGenerator[Event, None]:
    for event in events:
        yield event
    raise RuntimeError("the weights are gone")


async def test_a_failure_in_mid_stream_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    stream = Stream(_failing_after(Queued(position=1, estimate_s=1.0), Text(text="Once", tokens=1)), seed=7)
    await stream.begun()
    while not stream.is_over:
        stream.news.clear()
        await stream.news.wait()
    assert (stream.reason, stream.text) == ("error", "Once")
    assert stream.tokens_per_s is None  # of one token nobody can tell
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "a stream failed seed=7"
    assert record.exc_info is not None


async def test_a_failure_before_the_first_event_is_raised_and_told_by_who_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(RuntimeError, match="the weights are gone"):
        await Stream(_failing_after(), seed=7).begun()
    assert not caplog.records
