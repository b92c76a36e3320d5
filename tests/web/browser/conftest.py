"""A real server with two tiny models in a process of its own, and a real Chromium that visits it."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.web.browser.hands import Wire, open_desk

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000  # a busy machine is slow, not wrong
ROOT = Path(__file__).parents[3]
AT_ONCE = "localStorage['fablewright.settings'] ??= JSON.stringify({watch: false, max_tokens: 40})"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is. Without one the tests skip here and fail in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing = "expected Chromium on PATH, found none; on Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def checkpoints(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny models; the first has an index of its book."""
    from core.novelty import NoveltyIndex
    from tests.tiny import TEXT, make_tiny_checkpoint

    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_checkpoint, folder / "donkey")
    NoveltyIndex.build([TEXT]).save(folder / "donkey")
    make_tiny_checkpoint(folder / "younger", steps=40)
    return folder


REPORT = """\
# Three minutes a recipe

Perplexities are per word
of the same raw text.

| preset | test ppl | test bits/byte |
| --- | ---: | ---: |
| fast | 101.1 | 1.470 |
| slow | – | – |

## Learning curves

![Validation bits a byte over time](curves-time.svg)

![Validation bits a byte over tokens](curves-tokens.svg)

## What the figures say

- fast predicts the test books best.

Temperature 0.8, seed 0:

> **Once** and the <b>fox</b> said:
>
> - Yes.

```
python -m trainer train <book> & co
```
"""
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="540" height="288"><path style="fill: red" d="M9 9h99v99z"/></svg>'
)


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a comparison of two recipes and its drawings, in the Markdown that the trainer writes."""
    reports = tmp_path_factory.mktemp("reports")
    folder = reports / "three-minutes"
    folder.mkdir()
    (folder / "report.md").write_text(REPORT, encoding="utf-8")
    for name in ("curves-time.svg", "curves-tokens.svg"):
        (folder / name).write_text(DRAWING, encoding="utf-8")
    return reports


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(
    chromium: str, checkpoints: Path, reports: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """The address of `python -m web serve`, as a visitor meets it."""
    folder = tmp_path_factory.mktemp("server")
    models = {
        "FABLEWRIGHT_CHECKPOINT__FOLDERS": json.dumps([str(checkpoints)]),
        "FABLEWRIGHT_CHECKPOINT__NAME": "donkey",
        "FABLEWRIGHT_WEB__REPORTS": str(reports),
    }
    if "DESK_PICTURES" in os.environ:
        models = {}  # pictures are taken with the model that ships
    environment = os.environ | {
        **models,
        "DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'desk.sqlite3'}",
        "OMP_NUM_THREADS": "1",
    }
    log = (folder / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "web", "serve", "--port", "0"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
    )
    assert process.stdout is not None
    try:
        announced = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        address = re.search(r"http://[\d.:]+", announced)
        assert address, (
            f"expected the server to say where it listens, got {announced!r}; {(folder / 'log').read_text()}"
        )
        yield address.group().rstrip("/")
    finally:
        process.terminate()
        await process.wait()
        log.close()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser, server: str) -> AsyncIterator[BrowserContext]:
    """One visitor's browser, with nothing in it yet."""
    context = await browser.new_context(base_url=server, viewport={"width": 1360, "height": 850})
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await context.add_init_script(AT_ONCE)
    context.set_default_timeout(PATIENCE_MS)
    yield context
    await context.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """Everything the browser complained about: script errors, CSP violations. Must be empty in the end."""
    found: list[str] = []
    yield found
    assert not found


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext, complaints: list[str]) -> Page:
    """A window in which nothing has been opened yet."""
    page = await context.new_page()
    watch(page, complaints)
    return page


@pytest_asyncio.fixture(loop_scope="session")
async def wire(page: Page) -> Wire:
    """What the desk and the server say to each other, from the first word on."""
    return Wire(page)


@pytest_asyncio.fixture(loop_scope="session")
async def desk(page: Page, wire: Wire) -> Page:
    """The desk, empty, with the model set to write forty tokens at once."""
    await open_desk(page)
    return page


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def modules(browser: Browser, server: str) -> AsyncIterator[Page]:
    """A window of the site without its page, for what scripts do by themselves; the tests of a file share it."""
    page = await browser.new_page(base_url=server)
    complaints: list[str] = []
    watch(page, complaints)
    await page.goto("/healthz")
    yield page
    await page.close()
    assert not complaints


def watch(page: Page, complaints: list[str]) -> None:
    """Collect what the browser complains about on this page."""

    def listen(message: ConsoleMessage) -> None:
        # a 404 that a test provokes is reported as an error too
        if message.type == "error" and "status of 404" not in message.text:
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
