"""The page as an editor: whatever hands, clipboards and input methods do, page and story hold the same text."""

import pytest
from playwright.async_api import Page, expect

from tests.web.browser.hands import caret_to, compose, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_enter_begins_a_paragraph_and_shift_enter_a_line(desk: Page) -> None:
    await write(desk, "One")
    await desk.keyboard.press("Enter")
    await desk.keyboard.type("Two")
    await desk.keyboard.press("Shift+Enter")
    await desk.keyboard.type("Three")
    assert await text_of(desk) == "One\n\nTwo\nThree"


async def test_backspace_at_the_head_of_a_paragraph_joins_it_to_the_one_before(desk: Page) -> None:
    await write(desk, "One\n\nTwo")
    await desk.keyboard.press("Home")
    await desk.keyboard.press("Backspace")
    assert await text_of(desk) == "OneTwo"


async def test_delete_at_the_end_of_a_paragraph_joins_the_next(desk: Page) -> None:
    await write(desk, "One\n\nTwo")
    await desk.keyboard.press("Control+Home")
    await desk.keyboard.press("End")
    await desk.keyboard.press("Delete")
    assert await text_of(desk) == "OneTwo"


async def test_a_word_is_deleted_whole(desk: Page) -> None:
    await write(desk, "The old fox")
    await desk.keyboard.press("Control+Backspace")
    assert (await text_of(desk)).rstrip() == "The old"


async def test_everything_can_be_selected_and_replaced(desk: Page) -> None:
    await write(desk, "One\n\nTwo\n\nThree")
    await desk.keyboard.press("Control+a")
    await desk.keyboard.type("X")
    assert await text_of(desk) == "X"


async def test_everything_can_be_selected_and_deleted(desk: Page) -> None:
    await write(desk, "One\n\nTwo")
    await desk.keyboard.press("Control+a")
    await desk.keyboard.press("Delete")
    assert await text_of(desk) == ""


async def test_copied_and_pasted_text_keeps_its_paragraphs(desk: Page) -> None:
    await write(desk, "One\n\nTwo")
    await desk.keyboard.press("Control+a")
    await desk.keyboard.press("Control+c")
    assert await desk.evaluate("() => navigator.clipboard.readText()") == "One\n\nTwo"
    await desk.keyboard.press("Control+End")
    await desk.keyboard.press("Control+v")
    assert await text_of(desk) == "One\n\nTwoOne\n\nTwo"


async def test_cut_text_is_gone_and_on_the_clipboard(desk: Page) -> None:
    await write(desk, "The old fox")
    await desk.keyboard.press("Control+a")
    await desk.keyboard.press("Control+x")
    assert await text_of(desk) == ""
    assert await desk.evaluate("() => navigator.clipboard.readText()") == "The old fox"


async def test_pasted_markup_is_pasted_as_text(desk: Page) -> None:
    await desk.evaluate(
        """() => navigator.clipboard.write([new ClipboardItem({
            "text/html": new Blob(["<b>bold</b><img src=x>"], {type: "text/html"}),
            "text/plain": new Blob(["bold <b>\\r\\nline"], {type: "text/plain"})})])"""
    )
    await desk.focus("#page")
    await desk.keyboard.press("Control+v")
    assert await text_of(desk) == "bold <b>\nline"
    assert await desk.locator("#page b, #page img").count() == 0


async def test_an_input_method_composes_without_being_disturbed(desk: Page) -> None:
    await write(desk, "See: ")
    await compose(desk, "に", "にほ", "にほん", into="日本")
    await desk.keyboard.type("!")
    assert await text_of(desk) == "See: 日本!"
    await desk.keyboard.press("Control+z")
    assert "日本!" not in await text_of(desk)


async def test_composing_in_one_paragraph_leaves_the_others_as_they_are(desk: Page) -> None:
    await write(desk, "One\n\nTwo\n\nThree")
    await desk.evaluate("document.querySelectorAll('#page p').forEach((element) => (element.dataset.old = 'yes'))")
    await compose(desk, "é", into="é")
    assert await text_of(desk) == "One\n\nTwo\n\nThreeé"
    assert await desk.locator("#page p[data-old]").count() == 3


async def test_a_paragraph_begun_in_the_middle_is_seen_and_an_input_method_writes_into_it(desk: Page) -> None:
    paragraphs = [f"Paragraph {number}." for number in range(60)]
    await write(desk, "\n\n".join(paragraphs))
    await desk.evaluate(
        """() => {
            const middle = document.querySelectorAll("#page p")[20];
            getSelection().collapse(middle.firstChild, middle.firstChild.length);
            middle.scrollIntoView({ block: "center" });
        }"""
    )
    await desk.evaluate("document.querySelectorAll('#page p').forEach((element) => (element.dataset.old = 'yes'))")
    before = await desk.evaluate("() => scrollY")
    await desk.keyboard.press("Enter")
    assert await desk.evaluate("() => scrollY") == before
    await compose(desk, "w", "wo", "wor", into="word")
    await desk.keyboard.type("!")
    assert await text_of(desk) == "\n\n".join([*paragraphs[:21], "word!", *paragraphs[21:]])
    assert await desk.evaluate("() => scrollY") == before
    assert await desk.locator("#page p[data-old]").count() == 60


async def test_what_undo_changes_is_scrolled_to(desk: Page) -> None:
    await write(desk, "\n\n".join(f"Paragraph {number}." for number in range(60)))
    await desk.wait_for_timeout(1300)  # a pause ends a step
    await desk.keyboard.type(" Last.")
    await desk.evaluate("() => scrollTo(0, 0)")
    await desk.keyboard.press("Control+z")
    await expect(desk.locator("#page p").last).to_be_in_viewport()


async def test_undo_is_where_it_is_on_any_keyboard(desk: Page) -> None:
    await write(desk, "One")
    press = {"key": "я", "code": "KeyZ", "modifiers": 2, "windowsVirtualKeyCode": 90}
    devtools = await desk.context.new_cdp_session(desk)
    await devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown"} | press)
    assert await text_of(desk) == ""


async def test_undo_and_redo_bring_back_every_step(desk: Page) -> None:
    await write(desk, "One")
    await desk.wait_for_timeout(1300)  # a pause ends a step
    await desk.keyboard.type(" two")
    await desk.keyboard.press("Control+z")
    assert await text_of(desk) == "One"
    await desk.keyboard.press("Control+z")
    assert await text_of(desk) == ""
    await desk.keyboard.press("Control+y")
    await desk.keyboard.press("Control+Shift+z")
    assert await text_of(desk) == "One two"


async def test_text_can_be_typed_in_the_middle(desk: Page) -> None:
    await write(desk, "The fox")
    await caret_to(desk, 3)
    await desk.keyboard.type(" old")
    assert await text_of(desk) == "The old fox"


async def test_random_edits_keep_page_and_story_in_step(modules: Page) -> None:
    difference = await modules.evaluate(
        """async () => {
            const { Editor } = await import("/static/editor.js");
            const root = document.createElement("div");
            root.contentEditable = "true";
            document.body.append(root);
            let text = "", seed = 11;
            const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
            const editor = new Editor(root, { onEdit() {}, onUndo() {}, onRedo() {} });
            for (let i = 0; i < 500; i++) {
                const at = random(text.length + 1), removed = random(Math.min(12, text.length - at) + 1);
                const inserted = "a\\n\\nb\\n \\n\\n\\nc😀".slice(0, random(11));
                editor.apply({ at, removed, inserted });
                text = text.slice(0, at) + inserted + text.slice(at + removed);
                const shown = [...root.children].map((p) => p.textContent).join("\\n\\n");
                if (shown !== text || editor.text !== text) return [i, text, shown];
                const place = random(text.length + 1);
                editor.root.focus();
                editor.select(place);
                const { focus } = editor.selection();
                const between = text.slice(Math.min(focus, place), Math.max(focus, place));
                if (between !== "" && between !== "\\n") return [i, place, focus];
            }
            root.remove();
            return null;
        }"""
    )
    assert difference is None


async def test_what_an_extension_changes_is_taken_in_and_the_caret_stays_where_it_is(desk: Page) -> None:
    await write(desk, "Once upon a tim")
    await desk.get_by_role("button", name="Settings").focus()
    await desk.evaluate(
        """() => {
          getSelection().setPosition(document.querySelector("header") ?? document.body, 0);
          const page = document.querySelector("#page");
          page.firstChild.firstChild.data += "e";
          page.dispatchEvent(new InputEvent("input"));
        }"""
    )
    assert await text_of(desk) == "Once upon a time"
    assert not await desk.evaluate("document.querySelector('#page').contains(getSelection().focusNode)")
