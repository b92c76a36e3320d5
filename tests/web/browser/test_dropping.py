"""A connection that is cut again and again: the story arrives without a lost or doubled word."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.web.browser.conftest import open_desk
from tests.web.browser.hands import enter, finished, generate, reload, saved, started, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


class Cable:
    """A TCP relay before the server, which can be cut."""

    def __init__(self, server: str) -> None:
        self._target = urlsplit(server)
        self._writers: set[asyncio.StreamWriter] = set()
        self.cuts = 0

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        ends = {writer, far_writer}
        self._writers |= ends
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))
        for end in ends:
            end.close()
        self._writers -= ends

    def cut(self) -> None:
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
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


async def test_a_stream_cut_ten_times_is_the_text_it_would_have_been(
    browser: Browser, cable: tuple[Cable, str]
) -> None:
    line, address = cable
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
    rng = random.Random(3)
    for _ in range(10):
        await asyncio.sleep(rng.uniform(0.02, 0.6))
        line.cut()
    await finished(page)
    assert await text_of(page) == whole
    assert line.cuts == 10
    await context.close()
