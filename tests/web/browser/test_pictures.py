"""The pictures in the README, taken from the page itself.

`DESK_PICTURES=docs/pictures python -m pytest tests/web/browser/test_pictures.py` takes them anew, with the model that
ships. Otherwise one of them goes to a temporary folder, which shows that it can be done.
"""

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.web.browser.hands import finished, open_desk, started

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SETTINGS = "localStorage['fablewright.settings'] ??= JSON.stringify({watch: false, seed: 1082, max_tokens: 150})"
PNG = b"\x89PNG"
when_asked_for = pytest.mark.skipif("DESK_PICTURES" not in os.environ, reason="DESK_PICTURES names no folder for them")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("DESK_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def told(page: Page) -> None:
    """Begin with one of the suggestions and let the model write on."""
    await open_desk(page)
    await page.locator("#beginnings button").first.click()
    await started(page, 150)
    await finished(page)


async def take(page: Page, file: Path) -> None:
    await page.wait_for_timeout(300)  # colours fade in
    await page.screenshot(path=file)
    assert file.read_bytes().startswith(PNG)


@when_asked_for
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_picture_of_the_desk(browser: Browser, server: str, pictures: Path, scheme: str) -> None:
    context = await browser.new_context(
        base_url=server,
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": 1280, "height": 800},
        device_scale_factor=1.5,
    )
    await context.add_init_script(SETTINGS)
    page = await context.new_page()
    await told(page)
    await page.get_by_role("button", name="Retry").click()
    await finished(page)
    await page.locator("#map button.continuation").first.click()
    await page.evaluate("() => scrollTo(0, 0)")
    box = await page.locator("#page").bounding_box()
    assert box
    await page.mouse.move(box["x"] + 250, box["y"] + 110)
    await page.mouse.move(box["x"] + 252, box["y"] + 110)
    await expect(page.locator("#note")).to_be_visible()
    await take(page, pictures / ("desk.png" if scheme == "light" else "desk-dark.png"))
    await context.close()


async def test_a_picture_of_a_phone(browser: Browser, server: str, pictures: Path) -> None:
    context = await browser.new_context(
        base_url=server, viewport={"width": 390, "height": 780}, device_scale_factor=2, has_touch=True, is_mobile=True
    )
    await context.add_init_script(SETTINGS)
    page = await context.new_page()
    await told(page)
    await page.evaluate("() => scrollTo(0, 0)")
    await take(page, pictures / "phone.png")
    await context.close()


@when_asked_for
async def test_a_picture_of_the_models(browser: Browser, server: str, pictures: Path) -> None:
    context = await browser.new_context(
        base_url=server, viewport={"width": 1280, "height": 800}, device_scale_factor=1.5
    )
    await context.add_init_script(SETTINGS)
    page = await context.new_page()
    await page.goto("/models")
    await page.locator(".models article").first.wait_for()
    await take(page, pictures / "models.png")
    await context.close()
