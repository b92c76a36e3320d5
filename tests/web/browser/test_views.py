"""Going from one view to another faster than the server answers, or where it does not."""

import asyncio

import pytest
from playwright.async_api import Page, Route, expect

from tests.web.browser.hands import generate, ready, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


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


async def test_a_panel_closed_before_it_has_come_stays_closed(desk: Page) -> None:
    may_go = await held(desk, "**/static/dials.js")
    settings = desk.get_by_role("button", name="Settings")
    await settings.dblclick()
    async with desk.expect_response("**/static/dials.js"):
        may_go.set()
    await desk.evaluate("async () => { await import('/static/dials.js'); }")
    await expect(desk.locator("#panel")).to_be_hidden()
    await settings.click()
    await expect(desk.get_by_label("Temperature")).to_be_visible()
    await desk.get_by_role("button", name="Close").click()
    await expect(desk.locator("#panel")).to_be_hidden()


async def test_texts_of_a_visitor_who_says_so_stay_out_of_the_log(desk: Page) -> None:
    await desk.get_by_role("button", name="Settings").click()
    async with desk.expect_response("**/api/settings"):
        await desk.get_by_label("Let the server log them").click()
    await desk.reload()
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
