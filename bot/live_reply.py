"""Shows a story growing: its messages are edited once a second at most, with whatever has been written by then.

A slow or failing Discord delays what is shown, never what is written: news gather in the stream, and the next edit that
succeeds shows all of it.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable

import aiohttp
import discord

from . import notes
from .buttons import story_buttons
from .places import StoryMessages
from .splitting import pages, with_note
from .story import Story
from .stream import Stream

log = logging.getLogger(__name__)

FIRST_LOOK_S = 0.4  # how long the first edit waits for the first words
LAST_EDIT_S = 20.0  # kept for the last edit before a token expires
GIVE_UP_S = 15 * 60.0
LONGEST_PAUSE_S = 30.0
UNANSWERED = (discord.HTTPException, aiohttp.ClientError, OSError)  # what a request to Discord may end in


def contents(story: Story, note: str) -> list[str]:
    """Return what a story's messages say, with a note under the last."""
    shown = [str(page) for page in pages(story.shown_prompt, story.written)]
    return [*shown[:-1], with_note(shown[-1], note)]


class LiveReply:
    """One story's messages while it is written."""

    def __init__(
        self,
        story: Story,
        stream: Stream,
        messages: StoryMessages,
        *,
        interval_s: float,
        update: Callable[[Story, Stream], Awaitable[object]],
    ) -> None:
        """`update` brings the story up to the stream and keeps it."""
        self._story, self._stream, self._messages = story, stream, messages
        self._interval_s = interval_s
        self._update = update

    async def run(self) -> None:
        """Show the story until it is over and all of it is shown.

        Raises DeletedError, OutOfReachError, and what Discord refuses an edit for.
        """
        await self._wait_for_news(FIRST_LOOK_S)
        while not await self._show():
            await asyncio.sleep(self._interval_s)  # from the last answer on, so that no two edits arrive closer
            await self._wait_for_news()

    async def _show(self) -> bool:
        """Show what has been written by now, however often that takes; True when that was the end."""
        began, failures = time.monotonic(), 0
        while True:
            self._stream.news.clear()
            is_over = self._stream.is_over
            await self._update(self._story, self._stream)
            try:
                await self._messages.show(contents(self._story, self._note()), story_buttons(self._story))
            except UNANSWERED as error:
                if not _may_pass(error) or time.monotonic() - began > GIVE_UP_S:
                    raise
                failures += 1
                log.warning("an edit failed, trying again tries=%d error=%s", failures, error)
                await asyncio.sleep(_pause_s(error, failures))
            else:
                return is_over

    def _note(self) -> str:
        queue = self._stream.queue
        return notes.waiting(queue) if queue and not self._stream.is_over else notes.standing(self._story)

    async def _wait_for_news(self, timeout_s: float = math.inf) -> None:
        """Wait until there is something to show; a stream that could not be shown to its end is paused in time."""
        wait_s = min(timeout_s, self._seconds_left())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s if wait_s < math.inf else None):
                await self._stream.news.wait()
        if self._seconds_left() <= 0 and not self._stream.is_over:
            await self._stream.stop("paused")

    def _seconds_left(self) -> float:
        return self._messages.place.seconds_left - LAST_EDIT_S


def _may_pass(error: Exception) -> bool:
    if isinstance(error, discord.HTTPException):
        return error.status >= 500 or error.status == 429
    return True


def _pause_s(error: Exception, failures: int) -> float:
    pause_s = min(2.0 ** (failures - 1), LONGEST_PAUSE_S)
    if isinstance(error, discord.HTTPException) and error.status == 429:
        pause_s = max(pause_s, float(error.response.headers.get("Retry-After", 1)))
    return pause_s
