"""Work for PyTorch beside the event loop.

Every thread that runs a product keeps OpenMP helpers of its own for as long as it lives, and they slow the engine (see
`Worker`). So such work gets a thread that ends with it, not one of the pool that `asyncio.to_thread` shares.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_passing_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns or raise what it raises. When cancelled, wait for its end all the same."""
    with ThreadPoolExecutor(1) as passing:
        working = asyncio.get_running_loop().run_in_executor(passing, partial(work, *args, **kwargs))
        try:
            return await asyncio.shield(working)
        finally:
            await asyncio.wait([working])
