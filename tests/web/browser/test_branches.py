"""Why this word, and branching at it."""

import math

import pytest
from playwright.async_api import Page, expect

from tests.web.browser.hands import Wire, caret_to, finished, generate, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BEGINNING = "Once upon a time"


async def told(page: Page) -> Wire:
    """Let the model write, listening in."""
    wire = Wire(page)
    await page.reload()
    await write(page, BEGINNING)
    await generate(page)
    return wire


async def point_at(page: Page, place: int) -> None:
    """Hover the character at a place of the first paragraph."""
    x, y = await page.evaluate(
        """(place) => {
            const range = document.createRange();
            const text = document.querySelector("#page p").firstChild;
            range.setStart(text, place);
            range.setEnd(text, place + 1);
            const { left, top, width, height } = range.getBoundingClientRect();
            return [left + width / 2, top + height / 2];
        }""",
        place,
    )
    await page.mouse.move(x - 3, y)
    await page.mouse.move(x, y)


async def test_pointing_at_a_word_tells_its_chance_and_the_alternatives(desk: Page) -> None:
    wire = await told(desk)
    first = next(message for message in wire.heard if message["type"] == "text")["tokens"][0]
    await point_at(desk, len(BEGINNING) + len(first["text"]) - 1)
    note = desk.get_by_role("complementary", name="Why this word")
    await expect(note).to_be_visible()
    shown_as = first["text"].strip() if first["text"].startswith(" ") else f"‑{first['text']}"  # within a word
    await expect(note.locator(".chosen i")).to_have_text(shown_as)
    shown = await note.locator("li .share").all_inner_texts()
    assert len(shown) == len(first["top"])
    likeliest = 100 * math.exp(first["top"][0]["logprob"])
    assert abs(float(shown[0].removesuffix(" %")) - likeliest) <= max(0.5, likeliest / 100)


async def test_the_writers_own_words_have_no_note(desk: Page) -> None:
    await told(desk)
    await point_at(desk, 3)
    await desk.wait_for_timeout(400)
    await expect(desk.locator("#note")).to_be_hidden()


async def test_choosing_an_alternative_branches_there(desk: Page) -> None:
    wire = await told(desk)
    before = await text_of(desk)
    tokens = [token for message in wire.heard if message["type"] == "text" for token in message["tokens"]]
    at, token = next(
        (len(BEGINNING) + len("".join(one["text"] for one in tokens[:index])), one)
        for index, one in enumerate(tokens)
        if index > 2 and "\n" not in "".join(other["text"] for other in tokens[: index + 1]) and one["text"].strip()
    )
    await point_at(desk, at + len(token["text"]) - 1)
    choice = next(one["text"] for one in token["top"] if one["text"] not in (token["text"], "") and one["text"].strip())
    place = [one["text"] for one in token["top"]].index(choice)
    await desk.locator("#note li button").nth(place).click()
    await desk.wait_for_timeout(50)
    await finished(desk)
    assert wire.starts()[1]["prompt"] == before[:at] + choice
    assert (await text_of(desk)).startswith(before[:at] + choice)
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == before


async def test_the_note_can_be_reached_and_used_by_keyboard_alone(desk: Page) -> None:
    await told(desk)
    before = await text_of(desk)
    await caret_to(desk, len(BEGINNING) + 2)
    await desk.keyboard.press("Alt+Enter")
    await expect(desk.locator("#note button:focus")).to_have_count(1)
    await desk.keyboard.press("ArrowDown")
    await desk.keyboard.press("Enter")
    await finished(desk)
    assert await text_of(desk) != before
    await expect(desk.locator("#page")).to_be_focused()


async def test_escape_leaves_the_note_for_the_text(desk: Page) -> None:
    await told(desk)
    await caret_to(desk, len(BEGINNING) + 2)
    await desk.keyboard.press("Alt+Enter")
    await desk.keyboard.press("Escape")
    await expect(desk.locator("#note")).to_be_hidden()
    await expect(desk.locator("#page")).to_be_focused()


async def test_writing_on_from_the_caret_keeps_the_old_ending_on_its_branch(desk: Page) -> None:
    wire = await told(desk)
    before = await text_of(desk)
    await caret_to(desk, 9)
    await desk.keyboard.press("Control+Alt+Enter")
    await finished(desk)
    assert wire.starts()[1]["prompt"] == before[:9]
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == before


async def test_surprising_words_are_tinted_on_wish(desk: Page) -> None:
    await told(desk)
    tints = "() => [1, 2, 3, 4].reduce((sum, tint) => sum + CSS.highlights.get(`tint-${tint}`).size, 0)"
    assert await desk.evaluate(tints) == 0
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Temperature").fill("2")
    await desk.get_by_label("Top-p").fill("1")
    await desk.get_by_label("Tint the surprising words").check()
    await desk.keyboard.press("Escape")
    await desk.get_by_role("button", name="Retry").click()
    await finished(desk)
    assert await desk.evaluate(tints) > 0


async def test_what_stands_in_the_books_is_underlined_on_wish(desk: Page) -> None:
    copied = "there was a small grey donkey who lived at the edge of a wood"  # the tiny model's book
    await write(desk, f"My own idea is that {copied} near mine.")
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Underline what stands in the books").check()
    await expect(desk.locator("#status")).to_contain_text("% copied")
    underlined = await desk.evaluate(
        "() => [...CSS.highlights.get('copied')].map((r) => r.startContainer.data.slice(r.startOffset, r.endOffset))"
    )
    assert underlined == [copied]
