"""The models: their cards, one for each story, two side by side."""

import pytest
from playwright.async_api import Page, expect

from tests.web.browser.hands import Wire, enter, generate, reload, saved, write

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_every_model_shows_its_card(desk: Page) -> None:
    await desk.get_by_role("link", name="Models").click()
    names = desk.locator(".models h2")
    await expect(names).to_have_text(["donkey", "younger"])
    await desk.get_by_text("Its card").first.click()
    await expect(desk.locator("details[open]")).to_contain_text("A model for tests")


async def test_the_comparison_of_recipes_is_shown_with_its_drawings(desk: Page) -> None:
    await desk.get_by_role("link", name="Models").click()
    report = desk.get_by_role("region", name="Comparisons of recipes")
    await report.get_by_text("Three minutes a recipe").click()
    await expect(report.get_by_role("heading", name="Three minutes a recipe")).to_be_visible()
    await expect(report.get_by_role("cell", name="fast", exact=True).first).to_be_visible()
    await expect(report.get_by_text("fast predicts the test books best.")).to_be_visible()
    await expect(report.locator("blockquote")).to_contain_text("and the <b>fox</b> said:")
    await expect(report.locator("pre")).to_contain_text("python -m trainer train <book> & co")
    drawings = report.get_by_role("img", name="Validation bits a byte")
    await expect(drawings).to_have_count(2)
    for drawing in await drawings.all():
        await drawing.scroll_into_view_if_needed()
        await desk.wait_for_function("(image) => image.naturalWidth > 300", arg=await drawing.element_handle())


async def test_a_story_is_written_by_the_model_chosen_for_it(desk: Page, wire: Wire) -> None:
    await write(desk, "Once")
    await desk.get_by_role("link", name="Models").click()
    await desk.get_by_role("button", name="Let younger write in this story").click()
    await desk.get_by_role("link", name="Fablewright").click()
    await generate(desk)
    assert wire.starts()[0]["checkpoint"] == "younger"
    await saved(desk)
    await reload(desk)
    await generate(desk)
    assert wire.starts()[1]["checkpoint"] == "younger"


async def test_two_models_write_on_from_the_same_beginning_side_by_side(page: Page, wire: Wire) -> None:
    await page.goto("/models")
    await page.get_by_label("Beginning").fill("Once upon a time")
    await page.get_by_role("button", name="Write both").click()
    await expect(page.locator(".sides small")).to_contain_text(["tokens/s", "tokens/s"])
    first, second = wire.starts()[-2:]
    assert {first["checkpoint"], second["checkpoint"]} == {"donkey", "younger"}
    assert first["seed"] == second["seed"]
    assert first["prompt"] == second["prompt"] == "Once upon a time"
    pages = await page.locator(".sides .page").all_inner_texts()
    assert all(page.startswith("Once upon a time") and len(page) > 20 for page in pages)


async def test_a_model_that_is_gone_is_said_and_nothing_is_lost(desk: Page) -> None:
    await write(desk, "Once upon a time")
    await saved(desk)
    await desk.evaluate(
        """async () => {
            const { Shelf } = await import("/static/storage.js");
            const shelf = await Shelf.open();
            const [meta] = await shelf.list();
            await shelf.put({ ...meta, checkpoint: "long-gone" }, []);
        }"""
    )
    await reload(desk)
    await enter(desk)
    await desk.keyboard.press("Control+Enter")
    await expect(desk.get_by_role("alert")).to_contain_text("long-gone")
    await expect(desk.locator("#page")).to_have_text("Once upon a time")
    await desk.get_by_role("link", name="Choose another").click()
    await expect(desk.get_by_role("heading", name="Models")).to_be_visible()
