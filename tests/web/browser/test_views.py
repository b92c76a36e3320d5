"""Going from one view to another faster than the server answers, or where it does not."""

import asyncio

import pytest
from playwright.async_api import Dialog, Page, Route, expect

from tests.web.browser.hands import Wire, generate, open_desk, open_slow_desk, ready, set_before, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BEGINNING = "Once upon a time"


async def held(page: Page, url: str) -> asyncio.Event:
    """Hold back what is asked for at `url` until the event is set."""
    may_go = asyncio.Event()

    async def hold(route: Route) -> None:
        await may_go.wait()
        await route.continue_()

    await page.route(url, hold)
    return may_go


async def test_a_view_that_comes_late_does_not_cover_the_one_chosen_since(desk: Page) -> None:
    may_go = await held(desk, "**/api/stories")
    await desk.get_by_role("link", name="Shelf").click()
    await desk.get_by_role("link", name="Models").click()
    await expect(desk.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    async with desk.expect_response("**/api/stories"):
        may_go.set()
    await expect(desk.get_by_role("heading", name="donkey")).to_be_visible()
    await expect(desk.get_by_role("heading", name="Stories")).to_have_count(0)
    await expect(desk.get_by_role("heading", name="Models", exact=True)).to_be_visible()


async def test_a_panel_closed_before_it_has_come_stays_closed(page: Page) -> None:
    may_go = await held(page, "**/static/dials.js")
    await open_desk(page)
    settings = page.get_by_role("button", name="Settings")
    await settings.dblclick()
    async with page.expect_response("**/static/dials.js"):
        may_go.set()
    await page.evaluate("async () => { await import('/static/dials.js'); }")
    await expect(page.locator("#panel")).to_be_hidden()
    await settings.click()
    await expect(page.get_by_label("Temperature")).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    await expect(page.locator("#panel")).to_be_hidden()


async def test_texts_of_a_visitor_who_says_so_stay_out_of_the_log(desk: Page) -> None:
    await desk.get_by_role("button", name="Settings").click()
    log = desk.get_by_label("Let the server log them")
    await expect(log).to_be_checked()
    async with desk.expect_event("load"):  # to leave at once is to have said it all the same
        await log.evaluate("(input) => { input.click(); location.reload(); }")
    async with asyncio.timeout(10):
        while (await (await desk.request.get("/api/settings")).json())["settings"]["keep_text"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await write(desk, "Between us two")
    await generate(desk)
    (row,) = (await (await desk.request.get("/api/me/export")).json())["generations"]
    assert (row["prompt"], row["completion"]) == (None, None)
    await desk.get_by_role("button", name="Settings").click()
    await expect(desk.get_by_label("Let the server log them")).not_to_be_checked()


async def test_what_a_click_could_not_do_is_told(desk: Page, complaints: list[str]) -> None:
    await desk.route("**/api/settings", lambda route: route.abort())
    await desk.get_by_role("button", name="Settings").click()
    box = desk.get_by_label("Let the server log them")
    await box.click()
    await expect(desk.get_by_role("alert")).to_contain_text("The server cannot be reached just now.")
    await expect(box).to_be_checked()
    assert complaints
    complaints.clear()  # the browser's own, about the request
    await ready(desk)


async def test_a_story_can_be_taken_along_where_the_server_is_away(desk: Page, complaints: list[str]) -> None:
    await write(desk, BEGINNING)
    await desk.wait_for_load_state("networkidle")
    await desk.context.set_offline(True)
    await desk.get_by_role("button", name="Story", exact=True).click()
    async with desk.expect_download() as download:
        await desk.get_by_role("button", name="Text").click()
    assert (await (await download.value).path()).read_text() == BEGINNING
    await desk.get_by_role("button", name="Settings").click()
    await expect(desk.get_by_label("Temperature")).to_be_visible()
    complaints.clear()  # the browser's own, about requests


async def test_a_panel_that_cannot_be_fetched_is_closed_again(page: Page, complaints: list[str]) -> None:
    await page.route("**/static/dials.js", lambda route: route.abort())
    await open_desk(page)
    settings = page.get_by_role("button", name="Settings")
    await settings.click()
    await expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached just now.")
    await expect(settings).to_have_attribute("aria-expanded", "false")
    complaints.clear()


async def test_a_page_that_has_not_come_whole_says_so(page: Page, complaints: list[str]) -> None:
    await page.route("**/static/typeset.js", lambda route: route.abort())
    await page.goto("/")
    await expect(page.get_by_role("link", name="Load it again")).to_be_visible()
    complaints.clear()


async def test_the_chosen_paper_is_there_before_the_page_is(page: Page) -> None:
    await set_before(page, theme="dark")
    may_go = await held(page, "**/static/main.js")
    await page.goto("/", wait_until="commit")
    await page.locator(".late").wait_for(state="attached")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    may_go.set()
    await ready(page)


async def test_the_window_is_named_after_the_story(desk: Page) -> None:
    await expect(desk).to_have_title("Fablewright")
    await write(desk, BEGINNING)
    await expect(desk).to_have_title(f"{BEGINNING} · Fablewright")
    await desk.locator("#title").fill("The \u202efox")
    await expect(desk).to_have_title("The fox · Fablewright")
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk).to_have_title("Stories · Fablewright")
    asked: list[str] = []

    async def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await dialog.dismiss()

    desk.once("dialog", refuse)
    await desk.get_by_role("button", name="Delete The").click()
    assert asked == ["Delete “The fox” from this browser, with all its branches?"]


async def test_an_address_that_leads_nowhere_leads_to_the_desk(desk: Page) -> None:
    await desk.goto("/#constructor")
    await ready(desk)
    await desk.goto("/shared/%E0%A4%A")
    await expect(desk.get_by_role("heading", name="There is nothing here")).to_be_visible()
    await desk.goto("/nothere")
    await desk.get_by_role("link", name="To the desk").click()
    await desk.wait_for_url("**/")
    await ready(desk)


async def test_who_leaves_a_comparison_ends_it(page: Page, wire: Wire) -> None:
    await open_slow_desk(page)
    await page.get_by_role("link", name="Models").click()
    await page.get_by_label("Beginning").fill(BEGINNING)
    await page.get_by_label("Seed").fill("abc")
    await page.get_by_role("button", name="Write both").click()
    assert wire.starts() == []
    await page.get_by_label("Seed").fill("7")
    await page.get_by_role("button", name="Write both").click()
    for side in await page.locator(".sides .page").all():
        await expect(side).not_to_have_text(BEGINNING)
    await page.get_by_role("link", name="Shelf").click()
    async with asyncio.timeout(30):
        while sum(message["type"] == "done" for message in wire.heard) < 2:
            await page.wait_for_timeout(50)
    assert {message["reason"] for message in wire.heard if message["type"] == "done"} == {"cancelled"}
