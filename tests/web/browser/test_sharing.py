"""A story on the server and the links that show it."""

import pytest
from playwright.async_api import Browser, Page, expect

from tests.web.browser.hands import generate, saved, started, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def share(page: Page) -> str:
    """Make a link and return it."""
    await page.get_by_role("button", name="Story", exact=True).click()
    await page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("The link").first
    await link.wait_for()
    return await link.input_value()


async def test_a_link_shows_the_story_to_others_until_it_is_withdrawn(desk: Page, browser: Browser) -> None:
    await write(desk, "CHAPTER I\n\nA <b>quiet</b> morning.\n\nThen rain.")
    await desk.fill("#title", "<i>Weather</i>")
    url = await share(desk)
    reader = await browser.new_page()
    await reader.goto(url)
    await expect(reader.get_by_role("heading", name="<i>Weather</i>")).to_be_visible()
    await expect(reader.locator("article p")).to_have_text(["CHAPTER I", "A <b>quiet</b> morning.", "Then rain."])
    assert await reader.get_by_role("button").count() == 0
    await desk.get_by_role("button", name="Withdraw").click()
    await expect(desk.get_by_label("The link")).to_have_count(0)
    await reader.reload()
    await expect(reader.get_by_role("heading", name="There is nothing here")).to_be_visible()
    await reader.close()


async def test_a_guessed_link_shows_nothing(desk: Page) -> None:
    await desk.goto("/shared/AAAAAAAAAAAAAAAAAAAAAA")
    await expect(desk.get_by_role("heading", name="There is nothing here")).to_be_visible()


async def test_a_story_kept_on_the_server_comes_back_whole(desk: Page) -> None:
    await write(desk, "Once upon a time")
    await generate(desk)
    text = await text_of(desk)
    await desk.get_by_role("button", name="Story", exact=True).click()
    await desk.get_by_label("Keep it there too").check()
    await expect(desk.get_by_text("It is there")).to_be_visible()
    await expect(desk.get_by_label("Keep it there too")).to_be_checked()
    await saved(desk)
    await desk.evaluate(
        """async () => {
            const { Shelf } = await import("/static/storage.js");
            const shelf = await Shelf.open();
            for (const { id } of await shelf.list()) await shelf.remove(id);
            sessionStorage.clear();
        }"""
    )
    await desk.goto("/models")  # away from the desk, so that it does not save the story again
    await desk.goto("/#stories")
    await desk.locator(".shelf .title").first.click()
    await started(desk)
    assert await text_of(desk) == text
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == "Once upon a time"


async def test_a_story_that_is_only_on_the_server_can_be_deleted_there(desk: Page) -> None:
    await write(desk, "A story of the past")
    await desk.get_by_role("button", name="Story", exact=True).click()
    await desk.get_by_label("Keep it there too").check()
    await expect(desk.get_by_text("It is there")).to_be_visible()
    await desk.keyboard.press("Escape")
    desk.on("dialog", lambda dialog: dialog.accept())
    await desk.get_by_role("link", name="Shelf").click()
    for heading in ("Stories", "Only on the server"):
        await expect(desk.get_by_role("heading", name=heading)).to_be_visible()
        await desk.get_by_role("button", name="Delete A story of the past").click()
    await expect(desk.locator(".shelf .title")).to_have_count(0)
