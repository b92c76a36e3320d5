"""Why this word, and branching at it."""

import itertools
import json
import math
from typing import Any

import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from tests.web.browser.hands import Wire, caret_to, finished, generate, open_desk, text_of, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BEGINNING = "Once upon a time"


async def told(page: Page) -> None:
    """Let the model write."""
    await write(page, BEGINNING)
    await generate(page)


async def point_at(page: Page, place: int, across: float = 0.5) -> None:
    """Hover the character at a place of the story, somewhere across its width."""
    x, y = await page.evaluate(
        """([place, across]) => {
            for (const paragraph of document.querySelectorAll("#page > p")) {
                const text = paragraph.firstChild;
                if (place < text.length) {
                    const range = document.createRange();
                    range.setStart(text, place);
                    range.setEnd(text, place + 1);
                    const { left, top, width, height } = range.getClientRects()[0];
                    return [left + width * across, top + height / 2];
                }
                place -= text.length + 2;
            }
        }""",
        [place, across],
    )
    await page.mouse.move(x, y)


def tokens_of(wire: Wire) -> list[tuple[int, dict[str, Any]]]:
    """The model's words that can be pointed at, each with its place in the story."""
    tokens = [token for message in wire.heard if message["type"] == "text" for token in message["tokens"]]
    ends = itertools.accumulate((len(token["text"]) for token in tokens), initial=len(BEGINNING))
    return [(start, token) for start, token in zip(ends, tokens, strict=False) if token["text"].strip()]


def as_shown(text: str) -> str:
    return text.strip() if text.startswith((" ", "\n")) else f"‑{text}"  # a part of a word


async def test_pointing_at_a_word_tells_its_chance_and_the_alternatives(desk: Page, wire: Wire) -> None:
    await told(desk)
    at, first = tokens_of(wire)[0]
    await point_at(desk, at + len(first["text"]) - 1)
    note = desk.get_by_role("complementary", name="Why this word")
    await expect(note).to_be_visible()
    await expect(note.locator(".chosen i")).to_have_text(as_shown(first["text"]))
    shown = await note.locator("li .share").all_inner_texts()
    assert len(shown) == len(first["top"])
    likeliest = 100 * math.exp(first["top"][0]["logprob"])
    assert abs(float(shown[0].removesuffix(" %")) - likeliest) <= max(0.5, likeliest / 100)


async def test_the_writers_own_words_have_no_note(desk: Page) -> None:
    await told(desk)
    await point_at(desk, 3)
    await desk.wait_for_timeout(400)
    await expect(desk.locator("#note")).to_be_hidden()


async def test_every_part_of_a_character_belongs_to_its_own_word(desk: Page, wire: Wire) -> None:
    await told(desk)
    chosen = desk.locator("#note .chosen i")
    (at, first), (later, second) = tokens_of(wire)[:2]
    for place, token in ((at + len(first["text"]) - 1, first), (later + len(second["text"]) - 1, second)):
        for across in (0.1, 0.9):
            await point_at(desk, place, across)
            await expect(chosen).to_have_text(as_shown(token["text"]))


async def test_choosing_an_alternative_branches_there(desk: Page, wire: Wire) -> None:
    await told(desk)
    before = await text_of(desk)
    at, token = tokens_of(wire)[2]
    await point_at(desk, at + len(token["text"]) - 1)
    await expect(desk.locator("#note .chosen i")).to_have_text(as_shown(token["text"]))
    choice = next(one["text"] for one in token["top"] if one["text"] != token["text"] and one["text"].strip())
    place = [one["text"] for one in token["top"]].index(choice)
    await desk.locator("#note li button").nth(place).click()
    await finished(desk)
    assert wire.starts()[1]["prompt"] == before[:at] + choice
    assert (await text_of(desk)).startswith(before[:at] + choice)
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == before


@pytest.mark.parametrize("gone", [0, 1], ids=["its beginning is gone", "its middle is gone"])
async def test_branching_at_what_is_left_of_a_word_replaces_it_alone(desk: Page, wire: Wire, gone: int) -> None:
    await told(desk)
    at, token = next((at, token) for at, token in tokens_of(wire) if len(token["text"]) > 3)
    before = (await text_of(desk))[:at]
    await caret_to(desk, at + gone + 2)
    await desk.keyboard.press("Backspace")
    await desk.keyboard.press("Backspace")
    await desk.keyboard.press("Alt+Enter")
    choice = next(one["text"] for one in token["top"] if one["text"] != token["text"] and one["text"].strip())
    place = [one["text"] for one in token["top"]].index(choice)
    await desk.locator("#note li button").nth(place).click()
    await finished(desk)
    assert wire.starts()[1]["prompt"] == before + choice


async def test_redo_finds_a_branch_that_began_before_the_last_step(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    await write(desk, " And so it went.")
    whole = await text_of(desk)
    await caret_to(desk, 10)
    await desk.keyboard.press("Control+Alt+Enter")
    await finished(desk)
    other = await text_of(desk)
    assert other != whole
    await desk.keyboard.press("Control+z")
    assert await text_of(desk) == whole
    await desk.keyboard.press("Control+y")
    assert await text_of(desk) == other


async def test_neither_the_end_nor_part_of_a_character_can_be_chosen(page: Page, wire: Wire) -> None:
    """The real server's words, with two alternatives more."""
    more = [{"text": "", "logprob": -8.0}, {"text": "\ufffd", "logprob": -9.0}]

    def add(message: str | bytes) -> str:
        heard = json.loads(message)
        for token in heard.get("tokens", []):
            token["top"] += more
        return json.dumps(heard)

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: socket.send(add(message)))

    await page.route_web_socket("**/ws", between)
    await open_desk(page)
    await told(page)
    at, token = tokens_of(wire)[0]
    await point_at(page, at + len(token["text"]) - 1)
    buttons = page.locator("#note li button")
    await expect(buttons).to_have_count(len(token["top"]) + len(more))
    for text in ("the end", "part of a character"):
        await expect(buttons.filter(has_text=text).last).to_be_disabled()


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


async def test_writing_on_from_the_caret_keeps_the_old_ending_on_its_branch(desk: Page, wire: Wire) -> None:
    await told(desk)
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


async def test_the_pointer_does_not_carry_off_a_note_that_was_asked_for(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    words = await desk.evaluate(
        """() => [...CSS.highlights.get("model")].slice(0, 1).flatMap((range) => [3, 30].map((at) => {
            const one = document.createRange();
            one.setStart(range.startContainer, range.startOffset + at);
            one.setEnd(range.startContainer, range.startOffset + at + 1);
            const { x, y, width, height } = one.getBoundingClientRect();
            return [x + width / 2, y + height / 2];
        }))"""
    )
    chosen = desk.locator("#note .chosen i")
    await desk.mouse.click(*words[0])
    asked = await chosen.inner_text()
    await desk.evaluate(
        "() => document.querySelector('#page').addEventListener('pointermove', () => (window.moved = true))"
    )
    await desk.mouse.move(*words[1])
    await desk.wait_for_function("() => window.moved")
    await desk.wait_for_timeout(300)  # longer than the pointer has to rest on a word
    assert await chosen.inner_text() == asked
    await desk.keyboard.press("Escape")
    await expect(desk.locator("#note")).to_be_hidden()
    await desk.mouse.move(words[1][0] + 1, words[1][1])
    await expect(desk.locator("#note")).to_be_visible()
