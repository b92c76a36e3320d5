"""A visitor's settings and data: theirs alone, theirs to take and theirs to delete."""

from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import WSCloseCode

from core.errors import StoreError
from core.requests import Limits
from tests.web.conftest import Site, new_client

ID = "story-0123456789abcdef"


async def test_settings_begin_with_config_toml_and_tell_what_is_possible(site: Site) -> None:
    view = await site.get("/api/settings")
    assert view["own"] == {}
    assert view["settings"] == view["defaults"]
    assert view["settings"]["temperature"] == 1.0
    assert view["settings"]["checkpoint"] == "tiny"
    assert view["ranges"]["top_p"] == {"low": 0, "high": 1, "low_is_open": True}
    assert (view["limits"]["max_tokens"], view["limits"]["max_prompt_bytes"]) == (600, 100_000)


async def test_what_a_visitor_sets_holds_for_their_next_text_and_for_nobody_elses(site: Site) -> None:
    view = await site.call("PUT", "/api/settings", json={"temperature": 0, "max_tokens": 9, "checkpoint": "rough"})
    assert view["own"] == {"temperature": 0, "max_tokens": 9, "checkpoint": "rough"}
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", seed=1)
        first = await desk.until_end("a")
        await desk.send("start", id="b", prompt="Once", seed=2)
        second = await desk.until_end("b")
    assert first[0]["checkpoint"] == "rough"
    assert first[-1]["completion_tokens"] <= 9
    texts = ["".join(message.get("text", "") for message in messages) for messages in (first, second)]
    assert texts[0] == texts[1]  # temperature 0 is greedy: the seed does not matter
    async with new_client() as stranger, stranger.get(f"{site.url}/api/settings") as response:
        assert (await response.json())["own"] == {}


async def test_null_goes_back_to_the_default(site: Site) -> None:
    await site.call("PUT", "/api/settings", json={"temperature": 0.1, "top_k": 5})
    view = await site.call("PUT", "/api/settings", json={"temperature": None})
    assert view["own"] == {"top_k": 5}
    assert view["settings"]["temperature"] == 1.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"temperature": 5}, "temperature must be in [0, 2], got 5.0"),
        ({"temperature": "hot"}, 'temperature must be a number, got "hot"'),
        ({"max_tokens": 10**9}, "max_tokens must be in [1, 600], got 1000000000"),
        ({"checkpoint": "gone"}, "checkpoint must be one of rough, tiny, got 'gone'"),
        ({"colour": "red"}, "colour is not a known field"),
    ],
)
async def test_a_setting_that_cannot_be_is_refused(site: Site, body: dict[str, Any], message: str) -> None:
    status = 404 if "checkpoint" in body else 400
    assert (await site.call("PUT", "/api/settings", status, json=body))["error"]["message"] == message
    assert (await site.get("/api/settings"))["own"] == {}


async def test_export_holds_everything_and_deletion_leaves_nothing(site: Site) -> None:
    await site.call("PUT", "/api/settings", json={"top_k": 5})
    await site.call("PUT", f"/api/stories/{ID}", 201, json={"nodes": [{"id": "a", "kind": "prompt", "text": "Mine"}]})
    async with site.connect() as desk:
        written = await desk.write(prompt="My own prompt", seed=1)
    export = await site.get("/api/me/export")
    assert export["generations"][0]["prompt"] == "My own prompt"
    assert export["generations"][0]["completion"] == written.text
    assert export["nodes"][0]["text"] == "Mine"
    assert [setting["name"] for setting in export["settings"]] == ["top_k"]
    await site.call("DELETE", "/api/me", 204)
    after = await site.get("/api/me/export")
    assert not any(after[name] for name in ("generations", "stories", "nodes", "settings"))


async def test_what_is_written_after_a_deletion_on_sockets_from_before_it_is_the_new_visitors(site: Site) -> None:
    async with (
        site.connect() as desk,
        site.connect() as other_tab,
        new_client() as stranger,
        stranger.ws_connect(f"{site.url}/ws") as strangers,
    ):
        await desk.send("start", id="a", prompt="Before", max_tokens=30, pace=40)
        await desk.receive()
        await site.call("DELETE", "/api/me", 204)
        assert (await desk.until_end("a"))[-1]["type"] == "done"
        for tab in (desk, other_tab):
            assert (await tab.socket.receive(timeout=60)).data == WSCloseCode.GOING_AWAY
        await strangers.send_json({"type": "sing"})
        assert (await strangers.receive_json(timeout=60))["type"] == "error"
    async with site.connect() as desk:
        await desk.write(prompt="Afterwards", seed=1)
    rows = (await site.get("/api/me/export"))["generations"]
    assert [row["prompt"] for row in rows] == ["Afterwards"]


async def test_a_visitor_may_keep_their_texts_out_of_the_log(site: Site) -> None:
    await site.call("PUT", "/api/settings", json={"keep_text": False})
    async with site.connect() as desk:
        await desk.write(prompt="Between us", seed=1)
    row = (await site.get("/api/me/export"))["generations"][0]
    assert (row["prompt"], row["completion"]) == (None, None)
    assert row["completion_tokens"] > 0


async def test_no_text_is_kept_while_nobody_can_say_whether_the_visitor_wants_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.store.settings, "resolve", AsyncMock(side_effect=StoreError("the database is away")))
    async with site.connect() as desk:
        await desk.write(prompt="Between us", seed=1)
    row = (await site.get("/api/me/export"))["generations"][0]
    assert (row["prompt"], row["completion"]) == (None, None)


async def test_what_was_chosen_before_it_went_or_was_forbidden_locks_nobody_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.call("PUT", "/api/settings", json={"checkpoint": "rough", "max_tokens": 30})
    generations = site.web.generations
    monkeypatch.setattr(generations.engines, "names", lambda: ["tiny"])
    monkeypatch.setattr(generations, "request_limits", Limits(max_tokens=5))
    async with site.connect() as desk:
        written = await desk.write(max_tokens=None, seed=1)
        assert written.end["completion_tokens"] <= 5
        assert written.accepted["checkpoint"] == "tiny"
