"""A connection that is cut again and again, or dies without a word: no word of the story is lost or doubled."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.web.browser.hands import (
    begin_slowly,
    enter,
    finished,
    generate,
    open_desk,
    reload,
    saved,
    started,
    text_of,
    write,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


class Cable:
    """A TCP relay before the server, which can be cut."""

    def __init__(self, server: str) -> None:
        self._target = urlsplit(server)
        self._writers: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        self.lines = 0
        self._frozen = 0

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        ends = {writer, far_writer}
        self._writers |= ends
        self.lines += 1
        line = self.lines
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pour(line, reader, far_writer), self._pour(line, far_reader, writer))
        for end in ends:
            end.close()
        self._writers -= ends

    def cut(self) -> None:
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing through any more on the lines there are, and tell nobody; new ones work."""
        self._frozen = self.lines

    async def _pour(self, line: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if line > self._frozen:
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def cable(server: str) -> AsyncIterator[tuple[Cable, str]]:
    cable = Cable(server)
    relay = await asyncio.start_server(cable.relay, "127.0.0.1", 0)
    yield cable, f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    relay.close()
    cable.cut()


async def told_with_seed(page: Page, *, watch: bool) -> None:
    settings = f"JSON.stringify({{watch: {str(watch).lower()}, seed: 5, max_tokens: 90}})"
    await page.evaluate(f"() => localStorage.setItem('fablewright.settings', {settings})")
    await reload(page)


async def being_written_again(browser: Browser, address: str) -> tuple[Page, str]:
    """Return a desk at which a story is being written for the second time, slowly, and what it was the first time."""
    context = await browser.new_context(base_url=address)
    page = await context.new_page()
    await open_desk(page)
    await told_with_seed(page, watch=False)
    await write(page, "Once upon a time")
    await generate(page)
    whole = await text_of(page)
    await page.keyboard.press("Control+z")
    await saved(page)
    await told_with_seed(page, watch=True)
    await enter(page)
    await page.keyboard.press("Control+Enter")
    await started(page, len("Once upon a time"))
    return page, whole


async def test_a_stream_cut_ten_times_is_the_text_it_would_have_been(
    browser: Browser, cable: tuple[Cable, str]
) -> None:
    line, address = cable
    page, whole = await being_written_again(browser, address)
    rng = random.Random(3)
    for _ in range(10):
        await asyncio.sleep(rng.uniform(0.02, 0.6))
        line.cut()
    await finished(page)
    assert await text_of(page) == whole
    assert line.cuts == 10
    await page.context.close()


async def test_a_connection_that_died_without_a_word_is_left_for_another(
    browser: Browser, cable: tuple[Cable, str]
) -> None:
    line, address = cable
    page, whole = await being_written_again(browser, address)
    line.freeze()
    assert await text_of(page) != whole
    await finished(page)
    assert await text_of(page) == whole
    await page.context.close()


async def test_stop_stops_where_nobody_hears_it(browser: Browser, cable: tuple[Cable, str]) -> None:
    line, address = cable
    context = await browser.new_context(base_url=address)
    page = await context.new_page()
    await begin_slowly(page, "Once upon a time", chars=10)
    line.freeze()
    await page.keyboard.press("Escape")
    await finished(page)
    await expect(page.locator("#progress")).not_to_contain_text("dialling")
    await context.close()
