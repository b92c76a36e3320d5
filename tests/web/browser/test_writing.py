"""Writing with the model: generate, stop, retry, undo; whose words are whose; what is sent."""

import json
import re

import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from tests.web.browser.hands import (
    Wire,
    begin_slowly,
    caret_to,
    enter,
    finished,
    generate,
    model_words,
    open_desk,
    open_slow_desk,
    reload,
    saved,
    set_before,
    started,
    text_of,
    write,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BEGINNING = "Once upon a time"


async def test_the_model_writes_on_in_its_own_ink(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    text = await text_of(desk)
    assert text.startswith(BEGINNING)
    assert len(text) > len(BEGINNING)
    assert (await model_words(desk)).replace("\n", "") == text[len(BEGINNING) :].replace("\n", "")


async def test_the_page_shows_exactly_what_came(desk: Page, wire: Wire) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    (start,) = wire.starts()
    assert start["prompt"] == BEGINNING
    assert await text_of(desk) == BEGINNING + wire.completion(start["id"])


async def test_a_newcomer_sees_the_model_write_after_one_click(desk: Page) -> None:
    beginning = desk.locator("#beginnings button").first
    words = await beginning.inner_text()
    await beginning.click()
    await started(desk, len(words))
    await finished(desk)
    assert (await text_of(desk)).startswith(words)
    await expect(desk.locator("#invitation")).to_be_hidden()


async def test_an_empty_page_lets_the_model_begin(desk: Page) -> None:
    await desk.get_by_role("button", name="Generate").click()
    await started(desk)
    await finished(desk)
    assert await text_of(desk) == await model_words(desk)


async def test_escape_stops_and_keeps_what_was_written(page: Page) -> None:
    await begin_slowly(page, BEGINNING, chars=5)
    await page.keyboard.press("Escape")
    await finished(page)
    text = await text_of(page)
    await page.wait_for_timeout(400)
    assert await text_of(page) == text
    assert len(text) > len(BEGINNING)
    await expect(page.get_by_role("button", name="Generate")).to_be_visible()


async def test_the_stop_button_stops(page: Page) -> None:
    await open_slow_desk(page)
    await page.get_by_role("button", name="Generate").click()
    await started(page, 5)
    await page.get_by_role("button", name="Stop").click()
    await finished(page)
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_the_next_continuation_starts_from_what_stands_there(desk: Page, wire: Wire) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    await write(desk, " And then, \n")
    await caret_to(desk, 4)
    await desk.keyboard.type(", twice,")
    standing = await text_of(desk)
    await generate(desk)
    assert wire.starts()[1]["prompt"] == standing
    assert (await text_of(desk)).startswith(standing)


async def test_the_writers_words_stay_the_writers_among_the_models(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    await caret_to(desk, len(BEGINNING) + 3)
    await desk.keyboard.type("MINE")
    assert "MINE" in await text_of(desk)
    assert "MINE" not in await model_words(desk)


async def test_retry_writes_another_and_undo_and_redo_lead_back(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    first = await text_of(desk)
    await desk.get_by_role("button", name="Retry").click()
    await finished(desk)
    second = await text_of(desk)
    assert second.startswith(BEGINNING)
    assert second != first
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == BEGINNING
    await desk.get_by_role("button", name="Redo").click()
    assert await text_of(desk) == second


async def test_the_keyboard_stays_on_the_page_when_there_is_no_more_to_undo(desk: Page) -> None:
    await write(desk, BEGINNING)
    await desk.get_by_role("button", name="Undo").focus()
    await desk.keyboard.press("Enter")
    await expect(desk.get_by_role("button", name="Undo")).to_be_disabled()
    await desk.keyboard.type("Here again")
    assert await text_of(desk) == "Here again"


async def test_a_retry_has_a_seed_of_its_own_even_where_one_is_set(desk: Page, wire: Wire) -> None:
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Seed").fill("5")
    await desk.keyboard.press("Escape")
    await write(desk, BEGINNING)
    await generate(desk)
    first = await text_of(desk)
    await desk.get_by_role("button", name="Retry").click()
    await finished(desk)
    assert await text_of(desk) != first
    seeds = [message["seed"] for message in wire.heard if message["type"] == "accepted"]
    assert seeds[0] == 5 != seeds[1]
    await expect(desk.locator("#seed")).to_have_text(f"seed {seeds[1]}")


@pytest.mark.parametrize("presses", [1, 2])
async def test_a_retry_that_is_refused_leaves_what_stood_there(desk: Page, presses: int) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    text = await text_of(desk)
    await saved(desk)
    await desk.evaluate("() => localStorage.setItem('fablewright.settings', JSON.stringify({stop: ['x'.repeat(300)]}))")
    await reload(desk)
    press = "(button, presses) => { for (let i = 0; i < presses; i++) button.click(); }"
    await desk.get_by_role("button", name="Retry").evaluate(press, presses)
    await expect(desk.get_by_role("alert")).to_contain_text("1 to 200 characters")
    assert await text_of(desk) == text
    await desk.get_by_role("button", name="Undo").click()
    assert await text_of(desk) == BEGINNING


async def test_the_map_leads_to_every_branch(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    first = await text_of(desk)
    await desk.get_by_role("button", name="Retry").click()
    await finished(desk)
    assert await desk.locator("#map button").count() == 4  # the empty page, the beginning, two continuations
    await desk.locator("#map button.continuation").first.click()
    assert await text_of(desk) == first


async def test_the_same_seed_writes_the_same_text(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    first = await text_of(desk)
    await desk.locator("#seed").click()
    seed = await desk.evaluate("() => navigator.clipboard.readText()")
    await desk.keyboard.press("Control+z")
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Seed").fill(seed)
    await desk.get_by_role("button", name="Close").click()
    await generate(desk)
    assert await text_of(desk) == first


async def test_settings_are_sent_as_they_are_set(desk: Page, wire: Wire) -> None:
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_role("button", name="wild").click()
    await desk.get_by_label("Length").fill("24")
    await desk.get_by_label("Stop at").fill("moon\nsea")
    await desk.get_by_label("Stop at").blur()
    await desk.keyboard.press("Escape")
    await generate(desk)
    start = wire.starts()[0]
    assert {name: start[name] for name in ("temperature", "max_tokens", "stop", "top_p")} == {
        "temperature": 1.2,
        "max_tokens": 24,
        "stop": ["moon", "sea"],
        "top_p": 1,
    }


async def test_a_slider_stands_exactly_where_the_server_suggests(desk: Page) -> None:
    await desk.get_by_role("button", name="Settings").click()
    await expect(desk.get_by_label("Min-p")).to_have_value("0.005")
    await expect(desk.locator("output[for=set-min_p]")).to_have_text("0.005")


async def test_scripts_and_markup_stay_text(desk: Page) -> None:
    script = "<script>document.title='gone'</script><img src=x onerror=\"document.title='gone'\"> & so on"
    await write(desk, script)
    await desk.fill("#title", "<b>A title</b>")
    await generate(desk)
    await desk.get_by_role("link", name="Shelf").click()
    await expect(desk.get_by_role("button", name="<b>A title</b>", exact=True)).to_be_visible()
    assert await desk.locator("main img, main script, main b").count() == 0
    assert "gone" not in await desk.title()
    await desk.get_by_role("link", name="Fablewright").click()
    assert (await text_of(desk)).startswith(script)


async def test_where_nothing_is_written_in_place_of_the_rest_the_rest_stays(desk: Page) -> None:
    await write(desk, "Once upon a time")
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Stop at").fill("\n".join(" etaonihsrdlucm"))  # whatever comes first
    await desk.keyboard.press("Escape")
    await caret_to(desk, len("Once"))
    await desk.keyboard.press("Control+Alt+Enter")
    await desk.wait_for_function("() => document.querySelector('#progress').textContent.includes('tokens/s')")
    await finished(desk)
    assert await text_of(desk) == "Once upon a time"
    await write(desk, " there was")
    await saved(desk)
    await reload(desk)
    await started(desk)
    assert await text_of(desk) == "Once upon a time there was"


async def test_words_typed_while_the_model_writes_are_kept(page: Page) -> None:
    await begin_slowly(page, BEGINNING, chars=3)
    await page.keyboard.press("Control+Home")
    await page.keyboard.type("Listen! ", delay=30)
    await page.keyboard.press("Escape")
    await finished(page)
    text = await text_of(page)
    assert text.startswith("Listen! " + BEGINNING)
    assert text.removeprefix("Listen! " + BEGINNING) == await model_words(page)


async def test_what_an_input_method_is_composing_is_read_by_the_model(desk: Page, wire: Wire) -> None:
    await write(desk, "Once upon a ")
    devtools = await desk.context.new_cdp_session(desk)
    await devtools.send("Input.imeSetComposition", {"text": "time", "selectionStart": 4, "selectionEnd": 4})
    await desk.locator("#generate").click()
    await finished(desk)
    (asked,) = wire.starts()
    assert asked["prompt"] == "Once upon a time"
    assert (await text_of(desk)).startswith("Once upon a time")


async def test_holding_the_keys_down_begins_one_text(desk: Page, wire: Wire) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    for key in ("Control", "Shift", *["Enter"] * 5):
        await desk.keyboard.down(key)
    for key in ("Enter", "Shift", "Control"):
        await desk.keyboard.up(key)
    await finished(desk)
    assert len(wire.starts()) == 2


async def test_what_comes_while_an_input_method_composes_is_not_lost(page: Page, wire: Wire) -> None:
    await open_slow_desk(page, max_tokens=40)
    await write(page, BEGINNING)
    await page.keyboard.press("Control+Enter")
    await started(page, len(BEGINNING) + 3)
    await page.keyboard.press("Control+Home")
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
    while not any(message["type"] == "done" for message in wire.heard):
        await page.wait_for_timeout(100)
    await devtools.send("Input.insertText", {"text": "日本"})
    await finished(page)
    (start,) = wire.starts()
    assert await text_of(page) == "日本" + BEGINNING + wire.completion(start["id"])


async def test_words_of_the_writers_own_have_no_seed(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    await expect(desk.locator("#seed")).to_be_visible()
    await write(desk, " And then")
    await expect(desk.locator("#seed")).to_be_hidden()
    await desk.keyboard.press("Control+z")
    await expect(desk.locator("#seed")).to_be_visible()


async def test_the_seed_is_said_to_be_copied_only_where_it_is(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    await desk.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as over HTTP
    await desk.locator("#seed").click()
    await expect(desk.get_by_role("alert")).to_contain_text("does not let the page copy")
    await expect(desk.locator("#progress")).not_to_contain_text("Copied")


async def test_deleting_everything_while_the_model_writes_stops_it(page: Page) -> None:
    await begin_slowly(page, BEGINNING, chars=3)
    await page.keyboard.press("Control+a")
    await started(page, len(await text_of(page)) + 3)
    await page.keyboard.press("Delete")
    await page.keyboard.type("Another thing.")
    await finished(page)
    await page.wait_for_timeout(300)
    assert await text_of(page) == "Another thing."


async def test_what_the_server_refuses_is_said_in_words_and_nothing_is_lost(page: Page) -> None:
    await set_before(page, stop=["x" * 300])
    await open_desk(page)
    await write(page, BEGINNING)
    await page.keyboard.press("Control+Enter")
    await expect(page.get_by_role("alert")).to_contain_text("1 to 200 characters")
    assert await text_of(page) == BEGINNING


async def test_a_story_longer_than_the_model_reads_is_sent_from_its_end(desk: Page, wire: Wire) -> None:
    paragraph = "The donkey walked down the hill to the well, and up the hill again. " * 5
    story = "\n\n".join([paragraph] * 3000)  # 1 MB
    await desk.evaluate("(text) => navigator.clipboard.writeText(text)", story)
    await enter(desk)
    await desk.keyboard.press("Control+v")
    await generate(desk)
    (start,) = wire.starts()
    assert len(start["prompt"].encode()) <= 262_144
    assert story.endswith(start["prompt"])
    assert start["prompt"].startswith("The donkey")
    text = await text_of(desk)
    assert text.startswith(story)
    assert len(text) > len(story)


async def test_finished_sentences_are_announced_and_nothing_else(modules: Page) -> None:
    announced = await modules.evaluate(
        """async () => {
            const { Announcer } = await import("/static/announce.js");
            const region = document.createElement("div");
            const announcer = new Announcer(region);
            const said = () => [...region.children].map((p) => p.textContent);
            const steps = [];
            for (const piece of ["The fo", "x ran. The", " donkey", ' said "Yes."', "\\n\\nSo th"]) {
                announcer.hear(piece);
                steps.push(said());
            }
            announcer.flush();
            return [...steps, said()];
        }"""
    )
    ran, yes = "The fox ran.", 'The donkey said "Yes."'
    assert announced == [[], [ran], [ran], [ran], [ran, yes], [ran, yes, "So th"]]


async def test_the_pace_of_the_words_can_be_watched(page: Page, wire: Wire) -> None:
    await open_slow_desk(page)
    await page.get_by_role("button", name="Generate").click()
    await started(page, 5)
    assert wire.starts()[0]["pace"] > 0
    await expect(page.locator("#status")).to_contain_text(re.compile(r"\d+ tokens/s"))
    await page.keyboard.press("Escape")
    await finished(page)


async def test_what_has_just_been_typed_in_the_settings_counts(desk: Page, wire: Wire) -> None:
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Stop at").fill("The End\n")
    assert await desk.get_by_label("Stop at").input_value() == "The End\n"
    await desk.get_by_label("Seed", exact=True).fill("1234")
    await desk.get_by_role("button", name="Generate").click()
    await finished(desk)
    (start,) = wire.starts()
    assert (start["seed"], start["stop"]) == (1234, ["The End"])


async def test_half_a_character_does_not_stop_the_model(desk: Page, wire: Wire) -> None:
    await write(desk, BEGINNING)
    await desk.evaluate("() => document.execCommand('insertText', false, ' \\ud83d fox')")
    await generate(desk)
    assert wire.starts()[0]["prompt"] == f"{BEGINNING} \ufffd fox"
    assert await model_words(desk)


async def test_a_start_that_the_server_cannot_read_is_over(page: Page) -> None:
    refusal = json.dumps({"type": "error", "code": "invalid_request", "message": "expected JSON, got a riddle"})
    await page.route_web_socket("**/ws", lambda socket: socket.on_message(lambda _: socket.send(refusal)))
    await open_desk(page)
    await enter(page)
    await page.keyboard.press("Control+Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Expected JSON, got a riddle.")
    await finished(page)


async def test_try_again_does_what_was_refused(page: Page, wire: Wire) -> None:
    is_full = False

    def refuse(message: str | bytes) -> str:
        heard = json.loads(message)
        return json.dumps({"type": "error", "id": heard["id"], "code": "rate_limited", "message": "too many requests"})

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        socket.on_message(
            lambda sent: socket.send(refuse(sent)) if is_full and "start" in str(sent) else server.send(sent)
        )

    await page.route_web_socket("**/ws", between)
    await open_desk(page)
    await write(page, BEGINNING)
    await generate(page)
    first = await text_of(page)
    is_full = True
    await page.keyboard.press("Control+Shift+Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Too many requests.")
    assert await text_of(page) == first
    is_full = False
    await page.get_by_role("button", name="Try again").click()
    await page.wait_for_function("(first) => document.querySelector('#page').textContent !== first", arg=first)
    await finished(page)
    assert [start["prompt"] for start in wire.starts()] == [BEGINNING] * 2  # that reached the server
    assert (await text_of(page)).startswith(BEGINNING)


async def test_a_long_story_is_said_to_be_read(page: Page) -> None:
    await page.route_web_socket("**/ws", lambda _: None)
    await open_desk(page)
    await write(page, "Once upon a time. " * 1250)
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#progress")).to_have_text("Reading 5,000 words…")


async def test_who_reads_elsewhere_is_left_there_until_back_at_the_pen(page: Page) -> None:
    story = "\n\n".join(f"Paragraph {number}." for number in range(60))
    await begin_slowly(page, story, chars=5)
    await page.evaluate("() => scrollTo(0, 100)")
    await started(page, len(await text_of(page)) + 30)
    assert await page.evaluate("() => scrollY") == 100
    await page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
    bottom = await page.evaluate("() => document.querySelector('#page').lastChild.getBoundingClientRect().bottom")
    assert bottom < 850
    await page.keyboard.press("Escape")
    await finished(page)
