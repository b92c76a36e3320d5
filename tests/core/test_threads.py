"""Work in a thread of its own: what it gives, and that nothing of it is left when its caller goes on."""

import asyncio
import threading
from collections.abc import Iterator

import psutil
import pytest
import torch

from core.threads import in_passing_thread

HELPERS = 15  # of each thread that runs a large product: more than threads come and go in a test


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


@pytest.fixture
def _many_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1 + HELPERS)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_many_threads")
async def test_the_helpers_of_the_work_go_with_its_thread() -> None:
    process = psutil.Process()

    def work() -> int:
        torch.ones(2000, 2000).exp()
        return process.num_threads()

    before = process.num_threads()
    assert await in_passing_thread(work) >= before + HELPERS
    async with asyncio.timeout(30):
        while process.num_threads() >= before + HELPERS:  # noqa: ASYNC110 -- no event says that a thread has ended
            await asyncio.sleep(0.02)
