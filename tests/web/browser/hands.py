"""What a visitor does and sees, in one line each."""

from playwright.async_api import Page

MARKS = [("browser", {}), ("asyncio", {"loop_scope": "session"})]


async def write(page: Page, text: str) -> None:
    """Type at the end of the story."""
    await page.focus("#page")
    await page.keyboard.press("Control+End")
    for number, line in enumerate(text.split("\n\n")):
        if number:
            await page.keyboard.press("Enter")
        await page.keyboard.type(line)


async def generate(page: Page) -> None:
    """Press Ctrl+Enter and wait until the model has written."""
    await page.focus("#page")
    await page.keyboard.press("Control+Enter")
    await finished(page)


async def started(page: Page, more_than: int = 0) -> None:
    """Wait until the model's first words stand on the page."""
    await page.wait_for_function("(least) => document.querySelector('#page').textContent.length > least", arg=more_than)


async def finished(page: Page) -> None:
    """Wait until the model has lifted the pen."""
    await page.wait_for_function("() => document.querySelector('#page').getAttribute('aria-busy') === 'false'")


async def text_of(page: Page) -> str:
    """The story exactly as it stands on the page."""
    return await page.evaluate(
        "() => [...document.querySelectorAll('#page > p')].map((p) => p.textContent).join('\\n\\n')"
    )


async def caret_to(page: Page, place: int) -> None:
    """Put the caret at a place of a story that is one paragraph."""
    await page.focus("#page")
    await page.keyboard.press("Control+Home")
    for _ in range(place):
        await page.keyboard.press("ArrowRight")
