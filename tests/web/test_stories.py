"""Stories and share links over HTTP, as two visitors and strangers see them."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from yarl import URL

from tests.web.conftest import Site, StartSite, eventually, new_client

ID = "story-0123456789abcdef"
STORY = {
    "title": "The <b>donkey</b>",
    "current_node_id": "more",
    "details": {"checkpoint": "tiny"},
    "nodes": [
        {"id": "root", "kind": "prompt", "text": ""},
        {"id": "typed", "parent_id": "root", "kind": "edit", "text": "Once", "details": {"at": 0, "removed": 0}},
        {
            "id": "more",
            "parent_id": "typed",
            "kind": "continuation",
            "text": " upon \x00 a time <script>alert(1)</script>",
            "sampling": {"seed": 7, "temperature": 0.8},
            "checkpoint": "tiny",
            "completion_tokens": 5,
            "reason": "length",
        },
    ],
}


async def test_a_story_comes_back_as_it_was_saved(site: Site) -> None:
    assert await site.get("/api/stories") == {"stories": []}
    saved = await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    story = await site.get(f"/api/stories/{ID}")
    assert saved["title"] == story["title"] == STORY["title"]
    assert (story["current_node_id"], story["details"], story["version"]) == ("more", {"checkpoint": "tiny"}, 1)
    for node, sent in zip(story["nodes"], STORY["nodes"], strict=True):
        assert {name: node[name] for name in sent} == sent
    assert [listed["id"] for listed in (await site.get("/api/stories"))["stories"]] == [ID]


async def test_saving_again_adds_and_replaces_nodes_and_removes_none(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    other_tab = {"nodes": [{"id": "elsewhere", "parent_id": "root", "kind": "edit", "text": "Twice"}]}
    await site.call("PUT", f"/api/stories/{ID}", 200, json={"title": "Renamed", "nodes": []})
    await site.call("PUT", f"/api/stories/{ID}", 200, json=other_tab | {"title": "Renamed"})
    story = await site.get(f"/api/stories/{ID}")
    assert [node["id"] for node in story["nodes"]] == ["root", "typed", "more", "elsewhere"]
    assert story["title"] == "Renamed"


async def test_what_saving_leaves_out_stays_as_it_was(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    await site.call("PUT", f"/api/stories/{ID}", 200, json={"current_node_id": "typed"})
    story = await site.get(f"/api/stories/{ID}")
    assert (story["title"], story["details"]) == (STORY["title"], STORY["details"])
    await site.call("PUT", f"/api/stories/{ID}", 200, json={"title": "", "details": {}})
    story = await site.get(f"/api/stories/{ID}")
    assert (story["title"], story["details"], story["current_node_id"]) == ("", {}, "typed")


async def test_a_story_of_a_megabyte_is_kept(site: Site) -> None:
    text = "Once upon a time there was a donkey. " * 28_000
    await site.call("PUT", f"/api/stories/{ID}", 201, json={"nodes": [{"id": "a", "kind": "prompt", "text": text}]})
    assert (await site.get(f"/api/stories/{ID}"))["nodes"][0]["text"] == text


async def test_another_visitors_story_is_not_found(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    async with new_client() as stranger:
        for method, path, body in (
            ("GET", f"/api/stories/{ID}", None),
            ("PUT", f"/api/stories/{ID}", STORY),
            ("DELETE", f"/api/stories/{ID}", None),
            ("GET", f"/api/stories/{ID}/shares", None),
            ("POST", f"/api/stories/{ID}/shares", {"text": "x"}),
        ):
            async with stranger.request(method, site.url + path, json=body) as response:
                assert response.status == 404, method
                assert (await response.json())["error"]["code"] == "not_found"
    assert (await site.get(f"/api/stories/{ID}"))["title"] == STORY["title"]


async def test_a_deleted_story_is_gone_with_its_links(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    link = await site.call("POST", f"/api/stories/{ID}/shares", 201, json={"text": "Once upon a time"})
    await site.call("DELETE", f"/api/stories/{ID}", 204)
    await site.get(f"/api/stories/{ID}", 404)
    await site.get(f"/api{link['path']}", 404)


async def test_a_link_that_was_on_its_way_does_not_bring_a_deleted_story_back(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    is_sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"text": '
        await is_sent.wait()
        yield b'"Once upon a time"}'

    headers = {"Content-Type": "application/json"}
    asking = asyncio.create_task(site.call("POST", f"/api/stories/{ID}/shares", 404, data=slowly(), headers=headers))
    await asyncio.sleep(0.2)
    await site.call("DELETE", f"/api/stories/{ID}", 204)
    is_sent.set()
    await asking
    assert (await site.get("/api/stories"))["stories"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"title": 7}, "title must be a string, got 7"),
        ({"version": 0}, "version must be 1, got 0"),
        ({"version": 2}, "version must be 1, got 2"),
        ({"colour": "red"}, "colour is not a known field"),
        ({"nodes": [{"id": "a", "kind": "poem", "text": ""}]}, 'nodes.0.kind must be "prompt" or "edit" or'),
        ({"nodes": [{"id": "a b", "kind": "edit", "text": ""}]}, "nodes.0.id must match pattern"),
        ({"nodes": [{"id": "a", "kind": "edit"}]}, "nodes.0.text is missing"),
        ({"nodes": [{"id": "a", "parent_id": "b", "kind": "edit", "text": ""}]}, "node 'a': there is no parent 'b'"),
        ({"current_node_id": "nowhere"}, "current_node_id must be a node of the story, got 'nowhere'"),
    ],
)
async def test_a_story_that_does_not_fit_is_refused_and_nothing_is_lost(
    site: Site, body: dict[str, Any], message: str
) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    error = (await site.call("PUT", f"/api/stories/{ID}", 400, json=body))["error"]
    assert error["message"].startswith(message)
    assert len((await site.get(f"/api/stories/{ID}"))["nodes"]) == 3


async def test_an_id_that_could_be_guessed_is_refused(site: Site) -> None:
    error = (await site.call("PUT", "/api/stories/1", 400, json=STORY))["error"]
    assert error["param"] == "id"


# ---- links


async def test_a_link_shows_the_text_as_it_stood_to_anyone(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    text = "Once <script>alert(1)</script>"
    link = await site.call("POST", f"/api/stories/{ID}/shares", 201, json={"text": text, "title": "T", "days": 1})
    await site.call("PUT", f"/api/stories/{ID}", 200, json={"title": "Changed since"})
    async with new_client() as stranger, stranger.get(f"{site.url}/api{link['path']}") as response:
        shown = await response.json()
        assert "Set-Cookie" not in response.headers
    assert (shown["title"], shown["text"]) == ("T", text)
    assert (await site.get(f"/api/stories/{ID}/shares"))["shares"] == [link]
    nodes = (await site.get(f"/api/stories/{ID}"))["nodes"]
    assert [node["id"] for node in nodes] == ["root", "typed", "more"]  # the snapshot is no step of the story


async def test_links_cannot_be_guessed_and_differ(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    links = [await site.call("POST", f"/api/stories/{ID}/shares", 201, json={"text": "x"}) for _ in range(3)]
    ids = {link["id"] for link in links}
    assert len(ids) == 3
    assert all(len(id) >= 32 for id in ids)  # 192 random bits
    for guess in ("guessed", "%00"):
        await site.get(f"/api/shared/{guess}", 404)


async def test_a_withdrawn_link_no_longer_opens(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    link = await site.call("POST", f"/api/stories/{ID}/shares", 201, json={"text": "x"})
    await site.call("DELETE", f"/api/stories/{ID}/shares/{link['id']}", 204)
    await site.get(f"/api{link['path']}", 404)
    await site.call("DELETE", f"/api/stories/{ID}/shares/{link['id']}", 404)


async def test_a_link_expires(site: Site) -> None:
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    link = await site.call("POST", f"/api/stories/{ID}/shares", 201, json={"text": "x", "days": 1e-9})
    await site.get(f"/api{link['path']}", 404)
    for days in (0, -1, 400):
        await site.call("POST", f"/api/stories/{ID}/shares", 400, json={"text": "x", "days": days})


@pytest.mark.parametrize("where", ["story", "details", "sampling"])
@pytest.mark.parametrize("number", ["NaN", "Infinity"])
async def test_numbers_that_json_has_not_are_refused(site: Site, where: str, number: str) -> None:
    node = {"id": "a", "kind": "prompt", "text": ""} | ({} if where == "story" else {where: {"x": [float(number)]}})
    body = {"nodes": [node], "details": {"x": float(number)} if where == "story" else {}}
    error = (await site.call("PUT", f"/api/stories/{ID}", 400, json=body))["error"]
    assert error["message"].endswith("numbers must be finite")


async def test_a_reader_that_does_not_read_a_long_answer_is_cut_off(start_site: StartSite) -> None:
    site = await start_site(send_timeout_s=0.3)
    await site.call("PUT", f"/api/stories/{ID}", 201, json=STORY)
    text = "Once upon a time there was a donkey. " * 100_000  # more than the buffers of both kernels' ends
    body, headers = io.BytesIO(json.dumps({"text": text}).encode()), {"Content-Type": "application/json"}
    link = await site.call("POST", f"/api/stories/{ID}/shares", 201, data=body, headers=headers)
    assert (await site.get(f"/api{link['path']}"))["text"] == text
    cut_off = {"method": "GET", "route": "/api/shared/{share}", "status": "499"}
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", URL(site.url).port))
        reader.sendall(f"GET /api{link['path']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        counted = partial(site.web.metrics.registry.get_sample_value, "web_request_seconds_count", cut_off)
        await eventually(lambda: counted() == 1)
