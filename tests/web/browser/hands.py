"""What a visitor does and sees, in one line each."""

import json
from typing import Any

from playwright.async_api import Page, WebSocket


async def open_desk(page: Page) -> None:
    await page.goto("/")
    await ready(page)


async def open_slow_desk(page: Page, max_tokens: int = 400) -> None:
    """Open the desk with the model set to write at a reader's pace, and long enough to be interrupted."""
    await set_before(page, watch=True, max_tokens=max_tokens)
    await open_desk(page)


async def set_before(page: Page, **settings: object) -> None:
    """Let whatever is opened in this window find these settings, whichever others the visitor has."""
    await page.add_init_script(f"localStorage['fablewright.settings'] = {json.dumps(json.dumps(settings))}")


async def ready(page: Page) -> None:
    """Wait until a story lies on the desk; before that nothing can be written."""
    await page.wait_for_function("() => !document.querySelector('#desk').hidden")


async def enter(page: Page) -> None:
    """Put the caret into the page."""
    await ready(page)
    await page.focus("#page")


async def write(page: Page, text: str) -> None:
    """Type at the end of the story, so fast that it is one step of undo on the slowest machine."""
    await enter(page)
    await page.keyboard.press("Control+End")
    for number, line in enumerate(text.split("\n\n")):
        if number:
            await page.keyboard.press("Enter")
        await page.keyboard.insert_text(line)


async def generate(page: Page) -> None:
    """Press Ctrl+Enter and wait until the model has written."""
    await enter(page)
    await page.keyboard.press("Control+Enter")
    await finished(page)


async def reload(page: Page) -> None:
    """Load the page again, and wait until the story lies on the desk."""
    await page.reload()
    await ready(page)


async def started(page: Page, more_than: int = 0) -> None:
    """Wait until the model's first words stand on the page."""
    grown = "(least) => document.querySelector('#page').textContent.length > least"
    await page.wait_for_function(grown, arg=more_than, timeout=60_000)


async def finished(page: Page) -> None:
    """Wait until the model has lifted the pen; a long prompt on a busy machine takes its time."""
    lifted = "() => document.querySelector('#page').getAttribute('aria-busy') === 'false'"
    await page.wait_for_function(lifted, timeout=60_000)


async def begin_slowly(page: Page, text: str, *, chars: int) -> None:
    """Open the desk, type a beginning and let the model go on slowly, until so many characters of its own are there."""
    await open_slow_desk(page)
    await write(page, text)
    await page.keyboard.press("Control+Enter")
    await started(page, len(text) + chars)


async def text_of(page: Page) -> str:
    """The story exactly as it stands on the page."""
    return await page.evaluate(
        "() => [...document.querySelectorAll('#page > p')].map((p) => p.textContent).join('\\n\\n')"
    )


async def caret_to(page: Page, place: int) -> None:
    """Put the caret at a place of the story; a break between paragraphs is one step."""
    steps = place - (await text_of(page))[:place].count("\n\n")
    await enter(page)
    await page.keyboard.press("Control+Home")
    for _ in range(steps):
        await page.keyboard.press("ArrowRight")


async def compose(page: Page, *steps: str, into: str) -> None:
    """Write with an input method: what it shows in between, and what it ends in."""
    devtools = await page.context.new_cdp_session(page)
    for text in steps:
        shown = {"text": text, "selectionStart": len(text), "selectionEnd": len(text)}
        await devtools.send("Input.imeSetComposition", shown)
    await devtools.send("Input.insertText", {"text": into})


async def model_words(page: Page) -> str:
    """What wears the model's ink, joined."""
    return await page.evaluate(
        """() => {
            const order = (a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_PRECEDING ? 1 : -1);
            const place = (a, b) =>
                a.startContainer === b.startContainer
                    ? a.startOffset - b.startOffset
                    : order(a.startContainer, b.startContainer);
            const words = (range) => range.startContainer.data.slice(range.startOffset, range.endOffset);
            return [...CSS.highlights.get("model")].toSorted(place).map(words).join("\\n\\n");
        }"""
    )


async def saved(page: Page) -> None:
    """Wait until the browser has kept the story as it stands on this page; another tab may stand elsewhere in it."""
    await page.evaluate(
        """async () => {
            const { Shelf } = await import("/static/storage.js");
            const { Story } = await import("/static/story.js");
            const shelf = await Shelf.open();
            const shown = () => [...document.querySelectorAll("#page > p")].map((p) => p.textContent).join("\\n\\n");
            for (;;) {
                const id = sessionStorage.getItem("story");
                const kept = await shelf.load(id);
                const current = sessionStorage.getItem(`at.${id}`);
                if (kept && new Story({ nodes: kept.nodes, current }).text() === shown()) return;
                await new Promise((resolve) => setTimeout(resolve, 100));
            }
        }"""
    )


class Wire:
    """What page and server say to each other on the WebSocket."""

    def __init__(self, page: Page) -> None:
        self.sent: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        page.on("websocket", self._listen)

    def starts(self) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["type"] == "start"]

    def completion(self, id: str) -> str:
        return "".join(message["text"] for message in self.heard if message["type"] == "text" and message["id"] == id)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: self.sent.append(json.loads(frame)))
        socket.on("framereceived", lambda frame: self.heard.append(json.loads(frame)))
