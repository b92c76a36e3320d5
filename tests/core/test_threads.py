"""Work in a thread of its own: what it gives, and that nothing of it is left when its caller goes on."""

import asyncio
import threading

import pytest

from core.threads import in_passing_thread


async def test_what_the_work_returns_or_raises_comes_out_and_its_thread_is_gone() -> None:
    thread = await in_passing_thread(threading.current_thread)
    assert not thread.is_alive()
    with pytest.raises(ValueError, match="invalid literal"):
        await in_passing_thread(int, "one")


async def test_a_caller_that_is_cancelled_waits_for_the_work_beside_a_loop_that_goes_on() -> None:
    may_end = threading.Event()
    waiting = asyncio.create_task(in_passing_thread(may_end.wait))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.sleep(0.05)
    assert not waiting.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
