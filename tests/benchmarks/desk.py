"""The page in a real Chromium: what a first visit transfers, how soon the first text stands, how long frames take.

First text: from the key press (Ctrl+Enter, the event's own time stamp) to the frame that shows the first new words, the
page set as it is for a new visitor. Frames: 200 tokens a second stream into a story while keys are typed and the wheel
is turned; from Chromium's trace, the time between two frames that the page's main thread gives to the compositor, and
the thread's longest task. Browser, server and this script share the machine.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from tests.web.browser.conftest import FLAGS
from tests.web.browser.hands import enter, finished, generate, ready, started, write

from .serve import server
from .table import Cell, checkpoint_path, heading, parser, table

PACE = 200  # tokens per second
TOKENS = 1500
BEGINNING = "Once upon a time, in a house at the edge of the great wood,"
PARAGRAPH = "The donkey walked down the hill to the well, and up the hill again, and never once looked at the sea. " * 4
AT_PACE = f"""
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (message) {{
        send.call(this, message.replace(/"pace":[0-9.]+/, '"pace":{PACE}'));
    }};
"""
WATCH_FIRST_TEXT = """() => {
    window.shown = [];
    let pressed = null;
    addEventListener("keydown", (event) => event.key === "Enter" && (pressed = event.timeStamp), true);
    new MutationObserver(() => {
        if (pressed === null) return;
        const began = pressed;
        pressed = null;
        requestAnimationFrame(() => setTimeout(() => window.shown.push(performance.now() - began)));
    }).observe(document.querySelector("#page"), { childList: true, characterData: true, subtree: true });
}"""
CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "blink.user_timing"]


@asynccontextmanager
async def desk(browser: Browser, url: str, *, script: str = "", **settings: Any) -> AsyncIterator[Page]:
    """The desk as a new visitor finds it, with some settings."""
    context = await browser.new_context(base_url=url, viewport={"width": 1280, "height": 800})
    await context.add_init_script(f"localStorage['fablewright.settings'] ??= '{json.dumps(settings)}'; {script}")
    page = await context.new_page()
    await page.goto("/")
    await ready(page)
    await page.wait_for_load_state("networkidle")
    yield page
    await context.close()


async def weight(browser: Browser, url: str) -> dict[str, int]:
    """Bytes that a first visit transfers, by kind."""
    async with desk(browser, url) as page:
        entries = await page.evaluate(
            """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
                .map(({ name, transferSize }) => [new URL(name).pathname, transferSize])"""
        )
    sizes: dict[str, int] = {}
    for path, size in entries:
        kind = Path(path).suffix if path.startswith("/static/") else "page and API"
        sizes[kind] = sizes.get(kind, 0) + size
    return sizes


async def first_text_ms(browser: Browser, url: str, repeats: int) -> list[float]:
    """How soon the first words stand on the page, as the page is set for a new visitor."""
    async with desk(browser, url, max_tokens=16) as page:
        await write(page, BEGINNING)
        await page.evaluate(WATCH_FIRST_TEXT)
        for number in range(repeats):
            await generate(page)
            await page.wait_for_function("(least) => window.shown.length > least", arg=number)
            await page.keyboard.press("Control+z")
        times: list[float] = await page.evaluate("() => window.shown")
    return times


async def frames(browser: Browser, url: str, paragraphs: int) -> dict[str, Any]:
    """Frames and tasks of the main thread, in milliseconds, while the model writes and a writer types and scrolls."""
    async with desk(browser, url, script=AT_PACE, max_tokens=TOKENS) as page:
        story = "\n\n".join([PARAGRAPH] * paragraphs)
        await enter(page)
        await page.keyboard.insert_text(story)
        await page.keyboard.press("Control+Enter")
        await started(page, len(story.replace("\n", "")))
        await page.keyboard.press("Control+Home")
        await page.evaluate("() => { const tick = () => requestAnimationFrame(tick); tick(); }")
        await browser.start_tracing(page=page, categories=CATEGORIES)
        await page.evaluate("() => performance.mark('bench')")
        await page.mouse.move(600, 400)
        for number in range(60):
            await page.keyboard.type("a quiet word "[number % 13])
            await page.mouse.wheel(0, 120 if number % 20 < 10 else -120)
            await asyncio.sleep(0.05)
        rate = await page.locator("#progress").inner_text()
        is_live = await page.evaluate("() => document.querySelector('#page').getAttribute('aria-busy') === 'true'")
        trace = json.loads(await browser.stop_tracing())["traceEvents"]
        await finished(page)
    assert is_live, "the stream ended before the writer did"
    mark = next(event for event in trace if event["name"] == "bench")
    mine = [event for event in trace if (event["pid"], event["tid"]) == (mark["pid"], mark["tid"])]
    begun = sorted(event["ts"] for event in mine if event["name"] == "Commit")
    gaps = [(after - before) / 1e3 for before, after in pairwise(begun)]
    tasks = [event["dur"] / 1e3 for event in mine if event["name"].endswith("RunTask") and "dur" in event]
    return {
        "frames": len(gaps),
        "median": statistics.median(gaps),
        "longest": max(gaps),
        "task": max(tasks),
        "rate": rate,
    }


async def measure(checkpoint: Path, executable: str, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder, server(checkpoint, Path(folder)) as (port, _, _):
        url = f"http://127.0.0.1:{port}"
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
            sizes = await weight(browser, url)
            times = await first_text_ms(browser, url, repeats)
            rows: list[list[Cell]] = []
            for paragraphs in (1, 50, 250):
                got = await frames(browser, url, paragraphs)
                words = paragraphs * len(PARAGRAPH.split())
                seen = [
                    got["frames"],
                    got["median"],
                    got["longest"],
                    got["task"],
                    got["rate"].removeprefix("writing · "),
                ]
                rows.append([f"{words:,} words", *seen])
            version = browser.version
            await browser.close()
    heading(f"desk: {checkpoint.name}, Chromium {version}")
    table(("first visit", "bytes"), [*sizes.items(), ("all (bar: 150,000)", sum(sizes.values()))])
    print()
    percentile = sorted(times)[int(0.95 * (len(times) - 1))]
    row: list[Cell] = [f"{len(times)} times (bar: 300)", statistics.median(times), percentile, max(times)]
    table(("first text, ms", "p50", "p95", "longest"), [row])
    print()
    head = ("writing into, ms (bar: 50)", "frames", "median frame", "longest frame", "longest task", "the page says")
    table(head, rows)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=20, help="continuations to time")
    chosen: argparse.Namespace = options.parse_args()
    executable = shutil.which("chromium")
    if executable is None:
        print("desk: left out; expected chromium on PATH, found none")
        return
    asyncio.run(measure(checkpoint_path(chosen.checkpoint), executable, chosen.repeats))


if __name__ == "__main__":
    main()
