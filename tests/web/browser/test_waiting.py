"""What a writer sees who must wait: for a place, or for a server that has died."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.faults.server import Server
from tests.web.browser.conftest import PATIENCE_MS
from tests.web.browser.hands import Wire, enter, finished, generate, open_desk, reload, started, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BEGINNING = "Once upon a time"


@pytest_asyncio.fixture(loop_scope="session")
async def narrow(checkpoints: Path, tmp_path: Path, chromium: str) -> AsyncIterator[Server]:
    """A server that writes one story at a time."""
    database = f"sqlite+aiosqlite:///{tmp_path / 'narrow.sqlite3'}"
    chosen = {"checkpoint__name": "donkey", "engine__slots": "1"}
    async with Server(tmp_path, checkpoints=checkpoints, database_url=database, **chosen) as server:
        yield server


async def visit(browser: Browser, server: Server, *, tokens: int) -> Page:
    """A visitor of their own, who watches the model write."""
    context = await browser.new_context(base_url=server.url)
    context.set_default_timeout(PATIENCE_MS)
    settings = f"JSON.stringify({{watch: true, seed: 5, max_tokens: {tokens}}})"
    await context.add_init_script(f"localStorage['fablewright.settings'] ??= {settings}")
    page = await context.new_page()
    await open_desk(page)
    return page


async def begin(page: Page) -> None:
    await write(page, BEGINNING)
    await page.keyboard.press("Control+Enter")


async def test_the_place_in_the_queue_is_shown_until_it_is_ones_turn(browser: Browser, narrow: Server) -> None:
    first, second, third = [await visit(browser, narrow, tokens=600) for _ in range(3)]
    await begin(first)
    await started(first, len(BEGINNING))
    await begin(second)
    await expect(second.locator("#progress")).to_contain_text("Next in the queue")
    await expect(second.locator("#announcer")).to_contain_text("Next in the queue")
    await begin(third)
    await expect(third.locator("#progress")).to_contain_text("In the queue at place 2")
    await first.keyboard.press("Escape")
    await started(second, len(BEGINNING))
    await expect(third.locator("#progress")).to_contain_text("Next in the queue")
    await third.keyboard.press("Escape")
    await finished(third)
    assert await text_of(third) == BEGINNING
    await expect(third.locator("#map [aria-current]")).to_have_attribute("aria-label", f"you: {BEGINNING}")
    for page in (first, second, third):
        await page.context.close()


async def test_a_story_goes_on_when_the_server_that_wrote_it_was_killed(browser: Browser, narrow: Server) -> None:
    page = await visit(browser, narrow, tokens=70)
    await write(page, BEGINNING)
    await generate(page)
    whole = await text_of(page)
    await page.keyboard.press("Control+z")
    await enter(page)
    await page.keyboard.press("Control+Enter")
    await started(page, len(BEGINNING) + 20)
    await narrow.kill()
    await expect(page.locator("#progress")).to_contain_text("dialling again")
    await narrow.start()
    await finished(page)
    assert await text_of(page) == whole
    await page.context.close()


async def test_a_server_with_nothing_to_say_is_asked_whether_it_is_there(browser: Browser, narrow: Server) -> None:
    first, second = [await visit(browser, narrow, tokens=600) for _ in range(2)]
    wire = Wire(second)
    await reload(second)
    await begin(first)
    await started(first, len(BEGINNING))
    await begin(second)
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while sum(message["type"] == "pong" for message in wire.heard) < 2:
            await second.wait_for_timeout(100)
    await expect(second.locator("#progress")).to_contain_text("Next in the queue")
    assert len(wire.starts()) == 1
    for page in (first, second):
        await page.context.close()
