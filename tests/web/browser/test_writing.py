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
    reload,
    saved,
    slowly,
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


async def test_the_page_shows_exactly_what_came(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
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


async def test_escape_stops_and_keeps_what_was_written(desk: Page) -> None:
    await begin_slowly(desk, BEGINNING, chars=5)
    await desk.keyboard.press("Escape")
    await finished(desk)
    text = await text_of(desk)
    await desk.wait_for_timeout(400)
    assert await text_of(desk) == text
    assert len(text) > len(BEGINNING)
    await expect(desk.get_by_role("button", name="Generate")).to_be_visible()


async def test_the_stop_button_stops(desk: Page) -> None:
    await slowly(desk)
    await desk.get_by_role("button", name="Generate").click()
    await started(desk, 5)
    await desk.get_by_role("button", name="Stop").click()
    await finished(desk)
    await expect(desk.get_by_role("button", name="Stop")).to_be_hidden()


async def test_the_next_continuation_starts_from_what_stands_there(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
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


async def test_a_retry_has_a_seed_of_its_own_even_where_one_is_set(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
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


async def test_settings_are_sent_as_they_are_set(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
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


async def test_words_typed_while_the_model_writes_are_kept(desk: Page) -> None:
    await begin_slowly(desk, BEGINNING, chars=3)
    await desk.keyboard.press("Control+Home")
    await desk.keyboard.type("Listen! ", delay=30)
    await desk.keyboard.press("Escape")
    await finished(desk)
    text = await text_of(desk)
    assert text.startswith("Listen! " + BEGINNING)
    assert text.removeprefix("Listen! " + BEGINNING) == await model_words(desk)


async def test_what_an_input_method_is_composing_is_read_by_the_model(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
    await write(desk, "Once upon a ")
    devtools = await desk.context.new_cdp_session(desk)
    await devtools.send("Input.imeSetComposition", {"text": "time", "selectionStart": 4, "selectionEnd": 4})
    await desk.locator("#generate").click()
    await finished(desk)
    (asked,) = wire.starts()
    assert asked["prompt"] == "Once upon a time"
    assert (await text_of(desk)).startswith("Once upon a time")


async def test_holding_the_keys_down_begins_one_text(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
    await write(desk, BEGINNING)
    await generate(desk)
    for key in ("Control", "Shift", *["Enter"] * 5):
        await desk.keyboard.down(key)
    for key in ("Enter", "Shift", "Control"):
        await desk.keyboard.up(key)
    await finished(desk)
    assert len(wire.starts()) == 2


async def test_what_comes_while_an_input_method_composes_is_not_lost(desk: Page) -> None:
    wire = Wire(desk)
    await slowly(desk, max_tokens=40)
    await write(desk, BEGINNING)
    await desk.keyboard.press("Control+Enter")
    await started(desk, len(BEGINNING) + 3)
    await desk.keyboard.press("Control+Home")
    devtools = await desk.context.new_cdp_session(desk)
    await devtools.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
    while not any(message["type"] == "done" for message in wire.heard):
        await desk.wait_for_timeout(100)
    await devtools.send("Input.insertText", {"text": "日本"})
    await finished(desk)
    (start,) = wire.starts()
    assert await text_of(desk) == "日本" + BEGINNING + wire.completion(start["id"])


async def test_the_seed_is_said_to_be_copied_only_where_it_is(desk: Page) -> None:
    await write(desk, BEGINNING)
    await generate(desk)
    await desk.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as over HTTP
    await desk.locator("#seed").click()
    await expect(desk.get_by_role("alert")).to_contain_text("does not let the page copy")
    await expect(desk.locator("#progress")).not_to_contain_text("Copied")


async def test_deleting_everything_while_the_model_writes_stops_it(desk: Page) -> None:
    await begin_slowly(desk, BEGINNING, chars=3)
    await desk.keyboard.press("Control+a")
    await started(desk, len(await text_of(desk)) + 3)
    await desk.keyboard.press("Delete")
    await desk.keyboard.type("Another thing.")
    await finished(desk)
    await desk.wait_for_timeout(300)
    assert await text_of(desk) == "Another thing."


async def test_what_the_server_refuses_is_said_in_words_and_nothing_is_lost(desk: Page) -> None:
    await desk.evaluate("() => localStorage.setItem('fablewright.settings', JSON.stringify({stop: ['x'.repeat(300)]}))")
    await reload(desk)
    await write(desk, BEGINNING)
    await desk.keyboard.press("Control+Enter")
    await expect(desk.get_by_role("alert")).to_contain_text("1 to 200 characters")
    assert await text_of(desk) == BEGINNING


async def test_a_story_longer_than_the_model_reads_is_sent_from_its_end(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
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


async def test_finished_sentences_are_announced_and_nothing_else(desk: Page) -> None:
    announced = await desk.evaluate(
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


async def test_the_pace_of_the_words_can_be_watched(desk: Page) -> None:
    wire = Wire(desk)
    await slowly(desk)
    await desk.get_by_role("button", name="Generate").click()
    await started(desk, 5)
    assert wire.starts()[0]["pace"] > 0
    await expect(desk.locator("#status")).to_contain_text(re.compile(r"\d+ tokens/s"))
    await desk.keyboard.press("Escape")
    await finished(desk)


async def test_what_has_just_been_typed_in_the_settings_counts(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
    await desk.get_by_role("button", name="Settings").click()
    await desk.get_by_label("Stop at").fill("The End\n")
    assert await desk.get_by_label("Stop at").input_value() == "The End\n"
    await desk.get_by_label("Seed", exact=True).fill("1234")
    await desk.get_by_role("button", name="Generate").click()
    await finished(desk)
    (start,) = wire.starts()
    assert (start["seed"], start["stop"]) == (1234, ["The End"])


async def test_half_a_character_does_not_stop_the_model(desk: Page) -> None:
    wire = Wire(desk)
    await reload(desk)
    await write(desk, BEGINNING)
    await desk.evaluate("() => document.execCommand('insertText', false, ' \\ud83d fox')")
    await generate(desk)
    assert wire.starts()[0]["prompt"] == f"{BEGINNING} \ufffd fox"
    assert await model_words(desk)


async def test_a_start_that_the_server_cannot_read_is_over(desk: Page) -> None:
    refusal = json.dumps({"type": "error", "code": "invalid_request", "message": "expected JSON, got a riddle"})
    await desk.route_web_socket("**/ws", lambda socket: socket.on_message(lambda _: socket.send(refusal)))
    await reload(desk)
    await enter(desk)
    await desk.keyboard.press("Control+Enter")
    await expect(desk.get_by_role("alert")).to_contain_text("Expected JSON, got a riddle.")
    await finished(desk)


async def test_try_again_does_what_was_refused(desk: Page) -> None:
    is_full, wire = False, Wire(desk)

    def refuse(message: str | bytes) -> str:
        heard = json.loads(message)
        return json.dumps({"type": "error", "id": heard["id"], "code": "rate_limited", "message": "too many requests"})

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        socket.on_message(
            lambda sent: socket.send(refuse(sent)) if is_full and "start" in str(sent) else server.send(sent)
        )

    await desk.route_web_socket("**/ws", between)
    await reload(desk)
    await write(desk, BEGINNING)
    await generate(desk)
    first = await text_of(desk)
    is_full = True
    await desk.keyboard.press("Control+Shift+Enter")
    await expect(desk.get_by_role("alert")).to_contain_text("Too many requests.")
    assert await text_of(desk) == first
    is_full = False
    await desk.get_by_role("button", name="Try again").click()
    await desk.wait_for_function("(first) => document.querySelector('#page').textContent !== first", arg=first)
    await finished(desk)
    assert [start["prompt"] for start in wire.starts()] == [BEGINNING] * 2  # that reached the server
    assert (await text_of(desk)).startswith(BEGINNING)


async def test_a_long_story_is_said_to_be_read(desk: Page) -> None:
    await desk.route_web_socket("**/ws", lambda _: None)
    await reload(desk)
    await write(desk, "Once upon a time. " * 1250)
    await desk.keyboard.press("Control+Enter")
    await expect(desk.locator("#progress")).to_have_text("Reading 5,000 words…")


async def test_who_reads_elsewhere_is_left_there_until_back_at_the_pen(desk: Page) -> None:
    story = "\n\n".join(f"Paragraph {number}." for number in range(60))
    await begin_slowly(desk, story, chars=5)
    await desk.evaluate("() => scrollTo(0, 100)")
    await started(desk, len(await text_of(desk)) + 30)
    assert await desk.evaluate("() => scrollY") == 100
    await desk.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
    bottom = await desk.evaluate("() => document.querySelector('#page').lastChild.getBoundingClientRect().bottom")
    assert bottom < 850
    await desk.keyboard.press("Escape")
    await finished(desk)
