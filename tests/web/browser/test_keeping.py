"""Nothing that was written is lost: reload, two tabs, older records, the shelf, files."""

import asyncio
import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.web.browser.conftest import watch
from tests.web.browser.hands import (
    begin_slowly,
    enter,
    finished,
    generate,
    open_desk,
    ready,
    reload,
    saved,
    started,
    text_of,
    write,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BEGINNING = "Once upon a time"


async def test_a_story_is_there_again_after_a_reload_with_its_branches(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    await desk.get_by_role("button", name="Retry").click()
    await finished(desk)
    text = await text_of(desk)
    await saved(desk)
    await reload(desk)
    await started(desk)
    assert await text_of(desk) == text
    assert await desk.locator("#map button").count() == 4
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == BEGINNING


async def test_the_browser_is_asked_once_to_keep_what_was_written(desk: Page) -> None:
    """Else it may clear a site's storage when the disk is full."""
    await desk.evaluate(
        "() => Object.assign(navigator.storage, { persist: async () => (self.asked = (self.asked ?? 0) + 1) })"
    )
    assert await desk.evaluate("self.asked") is None
    for words in (BEGINNING, ", far away"):
        await write(desk, words)
        await saved(desk)
    assert await desk.evaluate("self.asked") == 1


async def test_a_reload_in_mid_stream_finds_the_story_whole(desk: Page) -> None:
    await write(desk, BEGINNING)
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Seed").fill("99")
    await desk.keyboard.press("Escape")
    await generate(desk)
    whole = await text_of(desk)
    await desk.keyboard.press("Control+z")
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Watch it write").check()
    await desk.keyboard.press("Escape")
    await enter(desk)
    await desk.keyboard.press("Control+Enter")
    await started(desk, len(BEGINNING) + 8)
    await reload(desk)
    await desk.wait_for_function(
        "(length) => document.querySelector('#page').innerText.length >= length * 0.9", arg=len(whole)
    )
    await finished(desk)
    assert await text_of(desk) == whole


async def test_two_tabs_on_one_story_do_not_overwrite_each_other(
    desk: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await write(desk, BEGINNING)
    await saved(desk)
    other = await another_tab(desk, context, complaints)
    assert await text_of(other) == BEGINNING
    await write(other, " in the other tab")
    await write(desk, " in this tab")
    await saved(other)
    await saved(desk)
    await reload(other)
    await reload(desk)
    assert await text_of(other) == BEGINNING + " in the other tab"
    assert await text_of(desk) == BEGINNING + " in this tab"
    await desk.locator("#map").get_by_role("button", name="you: in the other tab").click()
    assert await text_of(desk) == BEGINNING + " in the other tab"


async def test_what_was_typed_while_another_tab_opened_the_story_is_seen_there(
    desk: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await write(desk, BEGINNING)
    await saved(desk)
    await write(desk, " unsaved")
    other = await another_tab(desk, context, complaints)
    await expect(other.locator("#page")).to_have_text(BEGINNING + " unsaved")
    await write(desk, " and more")
    await saved(desk)
    await expect(other.locator("#map").get_by_role("button", name="you: and more")).to_be_visible()
    assert await text_of(other) == BEGINNING + " unsaved"


async def test_what_the_model_writes_in_one_tab_can_be_read_in_another(
    desk: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await write(desk, BEGINNING)
    await saved(desk)
    other = await another_tab(desk, context, complaints)
    await generate(desk)
    await saved(desk)
    await expect(other.locator("#map button")).to_have_count(3)
    async with asyncio.timeout(20):
        while await text_of(other) != await text_of(desk):
            await other.locator("#map button").last.click()


async def typed_in_another_tab(desk: Page, context: BrowserContext, complaints: list[str]) -> str:
    """Type in another tab where this one writes; check that it stays there and here, and return what stood there."""
    other = await another_tab(desk, context, complaints)
    await started(other, len(BEGINNING))
    await write(other, " MINE")
    text = await text_of(other)
    await started(desk, len(text) + 20)
    await desk.keyboard.press("Escape")
    await finished(desk)
    whole = await text_of(desk)
    await saved(desk)
    await reload(other)
    assert await text_of(other) == text
    await reload(desk)
    assert await text_of(desk) == whole
    return text


async def test_what_is_typed_where_another_tab_is_writing_stays_where_it_was_typed(
    page: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await begin_slowly(page, BEGINNING, chars=8)
    text = await typed_in_another_tab(page, context, complaints)
    assert text.endswith(" MINE")


async def test_what_is_typed_below_what_another_tab_is_writing_stays_too(
    page: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await begin_slowly(page, BEGINNING, chars=8)
    await page.keyboard.press("Control+Home")
    await page.keyboard.type("NOTE ")
    await page.wait_for_timeout(2000)  # it is saved meanwhile, and grows on
    text = await typed_in_another_tab(page, context, complaints)
    assert text.startswith("NOTE ")


async def test_a_copy_of_the_tab_takes_the_pen_and_the_first_tab_reads_on(
    page: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await begin_slowly(page, BEGINNING, chars=8)
    kept = json.dumps(await page.evaluate("() => ({ ...sessionStorage })"))
    copy = await context.new_page()
    watch(copy, complaints)
    await copy.add_init_script(f"Object.assign(sessionStorage, {kept})")
    await open_desk(copy)
    await finished(page)
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(copy.locator("#stop")).to_be_visible()
    await started(copy, len(await text_of(page)) + 20)
    await copy.get_by_role("button", name="Stop").click()
    await finished(copy)
    async with asyncio.timeout(30):
        while await text_of(page) != await text_of(copy):
            await page.wait_for_timeout(100)


async def test_a_story_deleted_in_another_tab_is_kept_whole_by_the_one_that_goes_on_writing(
    desk: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await write(desk, BEGINNING)
    await saved(desk)
    other = await another_tab(desk, context, complaints)
    other.on("dialog", lambda dialog: dialog.accept())
    await other.get_by_role("link", name="Shelf").click()
    await other.get_by_role("button", name=f"Delete {BEGINNING}").click()
    await expect(other.locator(".shelf .title")).to_have_count(0)
    await write(desk, " there was")
    await saved(desk)
    await reload(desk)
    assert await text_of(desk) == BEGINNING + " there was"


async def test_a_title_given_in_one_tab_is_not_taken_back_by_another(
    desk: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await write(desk, BEGINNING)
    await saved(desk)
    other = await another_tab(desk, context, complaints)
    await desk.fill("#title", "A name")
    await expect(other.locator("#title")).to_have_value("A name")
    await write(other, " in the other tab")
    await saved(other)
    await reload(desk)
    await expect(desk.locator("#title")).to_have_value("A name")


async def test_branches_of_another_tab_stay_in_their_story(
    desk: Page, context: BrowserContext, complaints: list[str]
) -> None:
    await write(desk, BEGINNING)
    await saved(desk)
    other = await another_tab(desk, context, complaints)
    slow = """async () => {
        const { Shelf } = await import("/static/storage.js");
        const { load } = Shelf.prototype;
        window.loading = new Promise((heard) => {
            Shelf.prototype.load = async function (id) {
                const kept = await load.call(this, id);
                await new Promise((goOn) => heard((window.goOn = goOn)));
                return kept;
            };
        });
    }"""
    await desk.evaluate(slow)
    await write(other, " in the other tab")
    await desk.evaluate("async () => { await window.loading; }")
    await desk.get_by_role("button", name="Story", exact=True).click()
    await desk.get_by_role("button", name="New story").click()
    await expect(desk.locator("#page")).to_have_text("")
    await desk.evaluate("() => window.goOn()")
    await write(desk, "A story of its own")
    await expect(desk.locator("#map button")).to_have_count(2)


async def another_tab(desk: Page, context: BrowserContext, complaints: list[str]) -> Page:
    """Open the story in a second tab, and wait until the first one has heard of it."""
    heard = """() => {
        const channel = new BroadcastChannel("fablewright");
        window.heard = new Promise((resolve) => (channel.onmessage = ({ data }) => data.opened && resolve()));
    }"""
    await desk.evaluate(heard)
    other = await context.new_page()
    watch(other, complaints)
    await open_desk(other)
    await desk.evaluate("() => window.heard")
    return other


async def test_a_story_kept_by_an_older_page_opens(desk: Page) -> None:
    await desk.evaluate(
        """() => new Promise((resolve, reject) => {
            const request = indexedDB.open("fablewright", 1);
            request.onsuccess = () => {
                const transaction = request.result.transaction("stories", "readwrite");
                const text = "From an older page.";
                const old = { id: "an-old-story-1234567", version: 1, title: "Old", text, created: 1, updated: 2 };
                transaction.objectStore("stories").put(old);
                transaction.oncomplete = () => resolve(request.result.close());
                transaction.onabort = () => reject(transaction.error);
            };
        })"""
    )
    await desk.get_by_role("link", name="Shelf").click()
    await desk.get_by_role("button", name="Old", exact=True).click()
    await started(desk)
    assert await text_of(desk) == "From an older page."
    await write(desk, " And on.")
    await saved(desk)
    await reload(desk)
    await started(desk)
    assert await text_of(desk) == "From an older page. And on."


async def test_the_shelf_lists_opens_and_deletes_stories(desk: Page) -> None:
    await write(desk, "The first story.")
    await desk.get_by_role("button", name="Story", exact=True).click()
    await desk.get_by_role("button", name="New story").click()
    await expect(desk.locator("#page")).to_have_text("")
    await write(desk, "The second story.")
    await desk.get_by_role("link", name="Shelf").click()
    titles = desk.locator(".shelf .title")
    await expect(titles).to_have_text(["The second story.", "The first story."])
    await titles.nth(1).click()
    await expect(desk.locator("#page")).to_have_text("The first story.")
    desk.on("dialog", lambda dialog: dialog.accept())
    await desk.get_by_role("link", name="Shelf").click()
    await desk.get_by_role("button", name="Delete The second story.").click()
    await expect(titles).to_have_text(["The first story."])


async def test_the_shelf_does_not_wait_for_a_server_that_hangs(desk: Page, complaints: list[str]) -> None:
    hanging = asyncio.Event()

    async def hang(route: Route) -> None:
        await hanging.wait()
        await route.abort()

    await desk.route("**/api/stories", hang)
    await write(desk, BEGINNING)
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk.locator(".shelf .title")).to_have_text(BEGINNING)
    hanging.set()
    await expect(desk.get_by_text("only on the server are not shown")).to_be_visible()
    complaints.clear()  # of the browser, about the request


async def test_a_story_whose_page_is_empty_just_now_stays_on_the_shelf(desk: Page) -> None:
    await write(desk, BEGINNING)
    await desk.get_by_role("button", name="Undo").click()
    await expect(desk.locator("#page")).to_have_text("")
    await desk.get_by_role("link", name="Shelf").click()
    await desk.locator(".shelf .title").click()
    await desk.get_by_role("button", name="Redo").click()
    assert await text_of(desk) == BEGINNING


async def test_where_the_browser_forbids_to_keep_anything_the_desk_is_there_all_the_same(
    browser: Browser, server: str, complaints: list[str]
) -> None:
    page = await browser.new_page(base_url=server)
    watch(page, complaints)
    await page.add_init_script(
        """for (const name of ["sessionStorage", "localStorage", "indexedDB", "BroadcastChannel"]) {
            const get = () => { throw new DOMException("denied", "SecurityError"); };
            Object.defineProperty(window, name, { get });
        }"""
    )
    await open_desk(page)
    await expect(page.get_by_role("alert")).to_contain_text("does not keep stories")
    await write(page, BEGINNING)
    await page.keyboard.press("Control+Enter")
    await started(page, len(BEGINNING))
    await page.keyboard.press("Escape")
    await finished(page)
    text = await text_of(page)
    await page.get_by_role("link", name="Shelf").click()
    await page.locator(".shelf .title").click()
    assert await text_of(page) == text
    await page.close()


async def test_the_shelf_leads_back_to_a_story_that_is_being_written(desk: Page) -> None:
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Watch it write").check()
    await desk.keyboard.press("Escape")
    await write(desk, BEGINNING)
    await desk.keyboard.press("Control+Enter")
    await started(desk, len(BEGINNING) + 3)
    await desk.get_by_role("link", name="Shelf").click()
    await desk.get_by_role("button", name=BEGINNING).first.click()
    await expect(desk.locator("#stop")).to_be_visible()
    await finished(desk)
    text = await text_of(desk)
    await saved(desk)
    await reload(desk)
    await started(desk)
    assert await text_of(desk) == text


async def test_a_story_that_another_tab_has_deleted_leaves_the_shelf_when_it_is_opened(desk: Page) -> None:
    await write(desk, BEGINNING)
    await desk.get_by_role("button", name="Story", exact=True).click()
    await desk.get_by_role("button", name="New story").click()
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk.locator(".shelf .title")).to_have_count(1)
    await desk.evaluate(
        """async () => {
            const { Shelf } = await import("/static/storage.js");
            const shelf = await Shelf.open();
            for (const { id } of await shelf.list()) await shelf.remove(id);
        }"""
    )
    await desk.locator(".shelf .title").click()
    await expect(desk.get_by_text("Nothing here yet.")).to_be_visible()


async def test_a_story_leaves_as_text_and_as_markdown(desk: Page) -> None:
    await write(desk, "A *star*\n\nand a second paragraph")
    await desk.fill("#title", "Stars")
    await desk.get_by_role("button", name="Story", exact=True).click()
    async with desk.expect_download() as download:
        await desk.get_by_role("button", name="Text", exact=True).click()
    file = await download.value
    assert file.suggested_filename == "Stars.txt"
    assert Path(await file.path()).read_text() == "A *star*\n\nand a second paragraph"
    async with desk.expect_download() as download:
        await desk.get_by_role("button", name="Markdown").click()
    markdown = Path(await (await download.value).path()).read_text()
    assert markdown.startswith("# Stars\n\nA \\*star\\*\n\nand a second paragraph\n\n---\n")


async def test_what_two_tabs_set_is_kept_of_both(desk: Page, context: BrowserContext, complaints: list[str]) -> None:
    other = await context.new_page()
    watch(other, complaints)
    await open_desk(other)
    for page, label in ((desk, "Seed"), (other, "Length")):
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label(label).fill("40")
        await page.keyboard.press("Escape")
    kept = await desk.evaluate("() => JSON.parse(localStorage.getItem('fablewright.settings'))")
    assert (kept["seed"], kept["max_tokens"]) == (40, 40)


async def bring_in(desk: Page, file: Path) -> None:
    await desk.get_by_role("link", name="Shelf").click()
    await desk.set_input_files("#import", file)


async def test_an_old_file_is_read_in_the_encoding_of_its_time(desk: Page, tmp_path: Path) -> None:
    file = tmp_path / "old.txt"
    file.write_bytes("“Café,” said Zoë.".encode("windows-1252"))
    await bring_in(desk, file)
    await started(desk)
    assert await text_of(desk) == "“Café,” said Zoë."


async def test_a_file_is_brought_in(desk: Page, tmp_path: Path) -> None:
    file = tmp_path / "From home.txt"
    file.write_bytes(b"Written at home.\r\n\r\nThe end.")
    await bring_in(desk, file)
    await started(desk)
    assert await text_of(desk) == "Written at home.\n\nThe end."
    await expect(desk.locator("#title")).to_have_value("From home")
    await ready(desk)  # a page loaded anew before the shelf has gone shows the shelf
    await reload(desk)
    await started(desk)
    assert await text_of(desk) == "Written at home.\n\nThe end."


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
async def test_a_file_says_by_its_mark_how_it_is_written(desk: Page, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "wide.txt"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    file.write_bytes(f"{mark}“Café,” said Zoë.\r\rThe end.".encode(encoding))
    await bring_in(desk, file)
    await started(desk)
    assert await text_of(desk) == "“Café,” said Zoë.\n\nThe end."


async def test_a_file_that_holds_no_text_is_refused(desk: Page, tmp_path: Path) -> None:
    file = tmp_path / "picture.txt"
    file.write_bytes(b"\x89PNG\r\n\0\0\0")
    await bring_in(desk, file)
    await expect(desk.get_by_role("alert")).to_contain_text("This file holds something else than text.")


async def test_a_new_story_is_still_new_after_a_reload(desk: Page) -> None:
    await write(desk, "An old story")
    await saved(desk)
    await desk.get_by_role("button", name="Story", exact=True).click()
    await desk.get_by_role("button", name="New story").click()
    await expect(desk.locator("#invitation")).to_be_visible()
    await reload(desk)
    await expect(desk.locator("#invitation")).to_be_visible()
    assert await text_of(desk) == ""


@pytest.mark.parametrize("paragraphs", [60, 900])
async def test_ones_place_in_a_story_is_kept(desk: Page, paragraphs: int) -> None:
    await write(desk, "First.")
    await desk.evaluate(
        "(text) => document.execCommand('insertText', false, text)",
        "\n\n".join(f"Paragraph {number}. {'It goes on and on. ' * (number % 30)}" for number in range(paragraphs)),
    )
    await saved(desk)
    middle = desk.locator("#page p").nth(paragraphs // 2)
    await middle.evaluate("(p) => p.scrollIntoView()")
    top = await settled(middle)
    assert 50 < top < 150

    async def is_there() -> None:
        assert abs(await settled(middle) - top) < 3

    async def late(route: Route) -> None:
        await asyncio.sleep(0.5)
        await route.continue_()

    await desk.context.route("**/fonts/*", late)
    await reload(desk)
    await desk.evaluate("() => document.fonts.ready")
    await is_there()
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk.get_by_role("heading", name="Stories")).to_be_visible()
    await desk.locator("#home").click()
    await is_there()
    await desk.mouse.wheel(0, 5000)  # who reads on is not held
    await desk.wait_for_function("(p) => p.getBoundingClientRect().top < -1000", arg=await middle.element_handle())
    assert await settled(middle) < -1000


async def settled(element: Locator) -> float:
    """How far down the window an element begins, in pixels, once it has not moved for twenty frames."""
    return await element.evaluate(
        """async (element) => {
            let top = NaN;
            for (let still = 0; still < 20; still++) {
                await new Promise(requestAnimationFrame);
                const now = element.getBoundingClientRect().top;
                if (now !== top) still = 0;
                top = now;
            }
            return top;
        }"""
    )


async def test_a_browser_that_is_full_says_so_once_and_goes_on_showing_it(desk: Page) -> None:
    await desk.evaluate(
        """() => {
            window.tried = 0;
            window.put = IDBObjectStore.prototype.put;
            IDBObjectStore.prototype.put = () => {
                window.tried++;
                throw new DOMException("The disk is full", "QuotaExceededError");
            };
        }"""
    )
    await write(desk, "Once")
    await desk.get_by_role("alert").get_by_role("button", name="Close").click()
    tried = await desk.evaluate("() => window.tried")
    await write(desk, " upon")
    await desk.wait_for_function("(tried) => window.tried > tried", arg=tried)
    await expect(desk.locator("#progress")).to_contain_text("not kept")
    await expect(desk.get_by_role("alert")).to_be_hidden()
    async with desk.expect_event("dialog") as asked:
        await desk.evaluate("() => setTimeout(() => location.reload())")
        dialog = await asked.value
    assert dialog.type == "beforeunload"
    await dialog.dismiss()
    await desk.evaluate("() => { IDBObjectStore.prototype.put = window.put; }")
    await write(desk, " a time")
    await expect(desk.locator("#progress")).to_have_text("4 words")
