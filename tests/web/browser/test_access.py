"""For everyone: no axe violation on any view in light or dark, a phone's width, the keyboard alone, calm motion."""

import itertools
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.web.browser.conftest import AT_ONCE, watch
from tests.web.browser.hands import caret_to, finished, generate, open_desk, open_slow_desk, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

Scheme = Literal["light", "dark"]
PHONE = {"width": 360, "height": 740}
LAPTOP = {"width": 1280, "height": 800}


async def visit(browser: Browser, server: str, complaints: list[str], scheme: Scheme, size: dict[str, int]) -> Page:
    context = await browser.new_context(
        base_url=server,
        color_scheme=scheme,
        viewport={"width": size["width"], "height": size["height"]},
        reduced_motion="reduce",
    )
    await context.add_init_script(AT_ONCE)
    page = await context.new_page()
    watch(page, complaints)
    await open_desk(page)
    return page


async def check(page: Page, view: str) -> None:
    results = await Axe().run(page)
    found = [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in results.response["violations"]]
    assert not found, f"{view}: {found}"
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(wide) <= 0, f"{view} is wider than its window"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
async def test_axe_finds_nothing_on_any_view(
    browser: Browser, server: str, complaints: list[str], scheme: Scheme, size: dict[str, int]
) -> None:
    page = await visit(browser, server, complaints, scheme, size)
    await check(page, "an empty desk")
    await write(page, "CHAPTER I\n\nOnce upon a time")
    await generate(page)
    await page.get_by_role("button", name="Retry").click()
    await finished(page)
    await check(page, "a story")
    await caret_to(page, 32)
    await page.keyboard.press("Alt+Enter")
    await expect(page.locator("#note")).to_be_visible()
    await check(page, "a note")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Settings").click()
    await check(page, "settings")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Story", exact=True).click()
    await page.get_by_role("button", name="Make a link").click()
    link = await page.get_by_label("The link").input_value()
    await check(page, "the story's panel")
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="Shelf").click()
    await expect(page.get_by_role("heading", name="Stories")).to_be_visible()
    await check(page, "the shelf")
    await page.get_by_role("link", name="Models").click()
    await page.get_by_text("Its card").first.click()
    await page.locator(".report summary").click()
    await expect(page.get_by_role("heading", name="Learning curves")).to_be_visible()
    await check(page, "the models")
    await page.goto(link)
    await expect(page.locator("article")).to_be_visible()
    await check(page, "a shared story")
    await page.context.close()


async def test_every_button_stands_whole_within_the_window(desk: Page) -> None:
    cut_off = """() => [...document.querySelectorAll("body > header :is(a, button), #actions button:not([hidden])")]
        .filter((one) => {
            const { left, right, height } = one.getBoundingClientRect();
            return left < 0 || right > innerWidth || height < 24 || one.scrollWidth > one.clientWidth;
        })
        .map((one) => one.id)"""
    for font, width in itertools.product(("", "200%"), (320, 360, 780, 1280)):
        await desk.set_viewport_size({"width": width, "height": 640})
        await desk.evaluate("(font) => { document.documentElement.style.fontSize = font; }", font)
        found = await desk.evaluate(cut_off)
        assert [id for id in found if id != "home"] == [], f"{width} pixels, font {font or 'as it is'}"
        wide = await desk.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width, f"{width} pixels, font {font or 'as it is'}"


async def test_the_way_elsewhere_is_there_in_the_middle_of_a_story(desk: Page) -> None:
    await write(desk, "\n\n".join(f"Paragraph {number}." for number in range(60)))
    await desk.evaluate("() => scrollTo(0, 600)")
    await expect(desk.get_by_role("link", name="Shelf")).to_be_in_viewport()
    await desk.locator("#open-story").focus()
    await desk.keyboard.press("Tab")
    assert await desk.evaluate("() => scrollY") == 600
    await desk.locator("#page p").nth(5).evaluate("(p) => p.scrollIntoView()")
    head = "() => document.querySelector('body > header').getBoundingClientRect().bottom"
    top = await desk.locator("#page p").nth(5).evaluate("(p) => p.getBoundingClientRect().top")
    assert top >= await desk.evaluate(head)


async def test_print_is_ink_on_paper_with_its_title(desk: Page) -> None:
    await write(desk, "Once upon a time")
    await desk.locator("#title").fill("The fox")
    await desk.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    await desk.emulate_media(media="print")
    await expect(desk.locator("#title")).to_be_visible()
    await expect(desk.get_by_role("link", name="Shelf")).to_be_hidden()
    await expect(desk.locator("#page")).to_have_css("color", "rgb(31, 29, 26)")


async def test_a_story_can_be_written_by_keyboard_alone(desk: Page) -> None:
    for _ in range(12):
        await desk.keyboard.press("Tab")
        if await desk.evaluate("() => document.activeElement.id") == "page":
            break
    await desk.keyboard.type("Once upon a time")
    await desk.keyboard.press("Control+Enter")
    await finished(desk)
    first = await text_of(desk)
    assert len(first) > 20
    await desk.keyboard.press("Control+Shift+Enter")
    await finished(desk)
    assert await text_of(desk) != first
    for _ in range(4):
        await desk.keyboard.press("Shift+Tab")
        if await desk.evaluate("() => document.activeElement.closest('#map') !== null"):
            break
    await desk.keyboard.press("ArrowLeft")
    await desk.keyboard.press("Enter")
    assert await text_of(desk) == first


async def test_the_skip_link_leads_into_the_view_that_is_shown(desk: Page) -> None:
    skip = desk.get_by_role("link", name="To the page")
    await skip.press("Enter")
    await expect(desk.locator("#page")).to_be_focused()
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk.get_by_role("heading", name="Stories")).to_be_visible()
    await skip.press("Enter")
    await expect(desk.locator("#other")).to_be_focused()
    await expect(desk.get_by_role("heading", name="Stories")).to_be_visible()


async def test_focus_stays_near_a_button_that_goes_when_it_is_pressed(page: Page) -> None:
    await open_slow_desk(page)
    await page.locator("#generate").press("Enter")
    await expect(page.locator("#stop")).to_be_focused()
    await page.locator("#stop").press("Enter")
    await expect(page.locator("#generate")).to_be_focused()
    await write(page, "The end")
    await page.get_by_role("button", name="Story", exact=True).press("Enter")
    await page.get_by_label("Keep it there too").press("Space")
    await expect(page.get_by_text("It is there")).to_be_visible()
    await expect(page.get_by_label("Keep it there too")).to_be_focused()
    await page.get_by_role("button", name="Make a link").press("Enter")
    await expect(page.get_by_label("The link")).to_be_visible()
    await expect(page.get_by_role("button", name="Make a link")).to_be_focused()
    await page.get_by_role("button", name="Withdraw").press("Enter")
    await expect(page.get_by_label("The link")).to_have_count(0)
    await expect(page.get_by_role("button", name="Make a link")).to_be_focused()
    await page.get_by_role("link", name="Shelf").press("Enter")
    await page.locator(".shelf .title").press("Enter")
    await expect(page.get_by_role("heading", name="The desk")).to_be_focused()
    await page.get_by_role("link", name="Models").press("Enter")
    await page.get_by_role("button", name="Let younger write").press("Enter")
    await expect(page.locator(".models .chosen")).to_be_focused()


async def test_the_panels_map_grows_with_the_story(desk: Page) -> None:
    await write(desk, "Once upon a time")
    await desk.get_by_role("button", name="Story", exact=True).click()
    dots = desk.locator("#branches button")
    await expect(dots).to_have_count(2)
    await dots.last.focus()
    await desk.keyboard.press("Control+Enter")
    await expect(dots).to_have_count(3)
    await finished(desk)
    await desk.keyboard.press("ArrowUp")
    await expect(desk.locator("#branches [aria-label='you: Once upon a time']")).to_be_focused()


async def test_a_browser_that_is_too_old_is_told_so(context: BrowserContext) -> None:
    await context.add_init_script("delete window.Highlight")
    page = await context.new_page()
    await page.goto("/")
    await expect(page.get_by_role("alert")).to_contain_text("A newer browser may do better.")


async def test_focus_can_be_seen(desk: Page) -> None:
    await desk.locator("#home").focus()
    await desk.keyboard.press("Tab")
    await desk.keyboard.press("Tab")
    style = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert await desk.evaluate(style) == "solid"


async def test_a_first_visit_transfers_little(desk: Page) -> None:
    await desk.wait_for_load_state("networkidle")
    sizes = await desk.evaluate(
        """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
            .map((one) => one.transferSize)"""
    )
    assert len(sizes) > 10
    assert all(sizes), "nothing comes from a cache"
    assert sum(sizes) < 150_000, "bytes of the page, its scripts, styles and fonts, as they travel"


async def test_nothing_is_loaded_from_elsewhere(page: Page, server: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await open_desk(page)
    await page.get_by_role("link", name="Models").click()
    await page.get_by_text("Its card").first.wait_for()
    await page.wait_for_load_state("networkidle")
    assert asked
    assert [url for url in asked if not url.startswith(server)] == []
