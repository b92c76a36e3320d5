"""A story on the server and the links that show it."""

import asyncio

import pytest
from playwright.async_api import Browser, BrowserContext, Dialog, Page, Response, Route, expect

from tests.web.browser.hands import enter, generate, open_desk, reload, saved, started, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def share(page: Page) -> str:
    """Make a link and return it."""
    await page.get_by_role("button", name="Story", exact=True).click()
    await page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("The link").first
    await link.wait_for()
    return await link.input_value()


async def new_story(page: Page) -> None:
    await open_panel(page)
    await page.get_by_role("button", name="New story").click()
    await expect(page.locator("#page")).to_have_text("")


async def keep_on_server(page: Page, *, is_done: bool = True) -> None:
    """Tick the box in the panel, and wait until the server has the story."""
    await open_panel(page)
    await page.get_by_label("Keep it there too").check()
    if is_done:
        await expect(page.get_by_text("It is there")).to_be_visible()


async def open_panel(page: Page) -> None:
    button = page.get_by_role("button", name="Story", exact=True)
    if await button.get_attribute("aria-expanded") != "true":
        await button.click()


def is_upload(response: Response) -> bool:
    return response.request.method == "PUT" and "/api/stories/" in response.url


async def on_server(page: Page) -> list[str]:
    """The texts of the visitor's stories on the server, as far as they were only ever added to."""
    return await page.evaluate(
        """async () => {
            const { stories } = await (await fetch("/api/stories")).json();
            const whole = await Promise.all(stories.map(async ({ id }) => (await fetch(`/api/stories/${id}`)).json()));
            return whole.map(({ nodes }) => nodes.map(({ text }) => text).join(""));
        }"""
    )


class Uploads:
    """The next story that is sent to the server, held on its way."""

    def __init__(self) -> None:
        self._route: asyncio.Future[Route] = asyncio.get_running_loop().create_future()

    async def hold(self, route: Route) -> None:
        if route.request.method == "PUT" and not self._route.done():
            self._route.set_result(route)
        else:
            await route.continue_()

    async def arrived(self) -> None:
        await asyncio.wait_for(asyncio.shield(self._route), 60)

    async def let_go(self) -> None:
        await (await self._route).continue_()


async def hold_uploads(page: Page) -> Uploads:
    uploads = Uploads()
    await page.route("**/api/stories/*", uploads.hold)
    return uploads


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
    await expect(desk.locator("#title")).to_have_value("")
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == "Once upon a time"


async def test_what_is_typed_before_another_story_is_opened_goes_to_the_server_and_the_other_does_not(
    desk: Page,
) -> None:
    await write(desk, "A private story")
    await new_story(desk)
    await write(desk, "A story")
    await keep_on_server(desk)
    async with desk.expect_response(is_upload):  # what was marked when it was kept
        pass
    await write(desk, " that goes on")
    await desk.get_by_role("link", name="Shelf").click()
    async with desk.expect_response(is_upload):
        await desk.get_by_role("button", name="A private story", exact=True).click()
        await expect(desk.locator("#page")).to_have_text("A private story")
    assert await on_server(desk) == ["A story that goes on"]


async def test_the_story_that_is_kept_is_the_one_that_was_there_when_it_was_asked_for(desk: Page) -> None:
    await write(desk, "The first")
    uploads = await hold_uploads(desk)
    await keep_on_server(desk, is_done=False)
    await uploads.arrived()
    await new_story(desk)
    await write(desk, "The second")
    await uploads.let_go()
    await desk.evaluate(
        """async () => {
            const { Shelf } = await import("/static/storage.js");
            const shelf = await Shelf.open();
            const isKept = async () => (await shelf.list()).some(({ isOnServer }) => isOnServer);
            while (!(await isKept())) await new Promise((next) => setTimeout(next, 100));
        }"""
    )
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk.locator(".shelf li", has_text="The first")).to_contain_text("also on the server")
    await expect(desk.locator(".shelf li", has_text="The second")).not_to_contain_text("also on the server")
    assert await on_server(desk) == ["The first"]


async def test_what_is_typed_while_the_story_is_sent_is_sent_too(desk: Page) -> None:
    await write(desk, "One")
    uploads = await hold_uploads(desk)
    await keep_on_server(desk, is_done=False)
    await uploads.arrived()
    await enter(desk)
    await desk.keyboard.press("Control+End")
    await desk.keyboard.insert_text(" two")
    async with desk.expect_response(is_upload):
        await uploads.let_go()
    async with desk.expect_response(is_upload):
        pass
    assert await on_server(desk) == ["One two"]


async def test_what_is_taken_from_the_server_does_not_come_back(desk: Page) -> None:
    await write(desk, "A story")
    await keep_on_server(desk)
    await saved(desk)
    await reload(desk)  # what this page has not sent itself it sends whole
    uploads = await hold_uploads(desk)
    await write(desk, " that goes on")
    await uploads.arrived()
    await open_panel(desk)
    await desk.get_by_label("Keep it there too").uncheck()
    async with desk.expect_response(is_upload):
        await uploads.let_go()
    await expect(desk.get_by_text("Otherwise the story stays")).to_be_visible()
    assert await on_server(desk) == []


async def test_a_wish_that_is_taken_back_at_once_is_taken_back_whole(desk: Page) -> None:
    await write(desk, "A story")
    uploads = await hold_uploads(desk)
    await keep_on_server(desk, is_done=False)
    await uploads.arrived()
    await desk.get_by_label("Keep it there too").uncheck()
    async with desk.expect_response(lambda response: response.request.method == "DELETE"):
        await uploads.let_go()
    await expect(desk.get_by_text("Otherwise the story stays")).to_be_visible()
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk.locator(".shelf li")).to_have_count(1)
    await expect(desk.locator(".shelf li")).not_to_contain_text("also on the server")
    assert await on_server(desk) == []


async def test_what_did_not_go_to_the_server_before_the_page_was_closed_goes_at_the_next_visit(
    context: BrowserContext,
) -> None:
    page = await context.new_page()
    await open_desk(page)
    await write(page, "A story")
    async with page.expect_response(is_upload):
        await keep_on_server(page)
    await page.route("**/api/stories/*", lambda route: route.abort())
    await write(page, " that goes on")
    await saved(page)
    await page.close()
    later = await context.new_page()
    async with later.expect_response(is_upload):
        await open_desk(later)
    assert await on_server(later) == ["A story that goes on"]


async def test_a_deletion_that_fails_changes_nothing(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.clock.install()
    await open_desk(page)
    await write(page, "A story")
    await keep_on_server(page)
    await new_story(page)
    async with page.expect_response(is_upload):
        await page.clock.fast_forward(5000)
    await page.route("**/api/me", lambda route: route.abort())
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Delete all of it").click()
    await expect(page.get_by_text("cannot be reached")).to_be_visible()
    await page.clock.fast_forward(5000)
    await page.get_by_role("link", name="Shelf").click()
    await expect(page.locator(".shelf li", has_text="A story")).to_contain_text("also on the server")
    await expect(page.get_by_role("alert")).to_be_hidden()
    assert await on_server(page) == ["A story"]


async def test_no_story_goes_back_to_a_server_that_was_told_to_delete_all(desk: Page) -> None:
    await write(desk, "A story")
    await keep_on_server(desk)
    desk.on("dialog", lambda dialog: dialog.accept())
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_role("button", name="Delete all of it").click()
    await expect(desk.get_by_text("It is gone.")).to_be_visible()
    await write(desk, " that goes on")
    await desk.get_by_role("button", name="Story", exact=True).click()
    await expect(desk.get_by_label("Keep it there too")).not_to_be_checked()
    assert await on_server(desk) == []
    await keep_on_server(desk)
    assert await on_server(desk) == ["A story that goes on"]


async def test_who_wants_no_text_logged_still_wants_none_after_deleting_everything(desk: Page) -> None:
    desk.on("dialog", lambda dialog: dialog.accept())
    await desk.get_by_role("button", name="Settings").click()
    async with desk.expect_response("**/api/settings"):
        await desk.get_by_label("Let the server log them").uncheck()
    await desk.get_by_role("button", name="Delete all of it").click()
    await expect(desk.get_by_text("It is gone.")).to_be_visible()
    settings = await desk.evaluate("() => fetch('/api/settings').then((answer) => answer.json())")
    assert settings["settings"]["keep_text"] is False


async def test_links_are_not_cut_without_a_word(desk: Page) -> None:
    await write(desk, "A story")
    await desk.get_by_role("button", name="Story", exact=True).click()
    await desk.get_by_role("button", name="Make a link to read it").click()
    await expect(desk.get_by_label("The link")).to_be_visible()
    asked: list[str] = []

    async def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await dialog.dismiss()

    desk.once("dialog", refuse)
    await desk.get_by_label("Keep it there too").click()
    await expect(desk.get_by_label("Keep it there too")).to_be_checked()
    assert asked == ["The links to it will stop working. Take it from the server?"]
    await expect(desk.get_by_label("The link")).to_be_visible()


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
