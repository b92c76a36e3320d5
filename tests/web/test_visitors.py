"""Who is who: cookies, keys, addresses behind proxies, and pages of other sites."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.web.conftest import Site, StartSite, new_client


async def test_a_visitor_gets_one_cookie_that_scripts_cannot_read(site: Site) -> None:
    async with site.client.get(site.url) as response:
        cookie = response.cookies["fablewright"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert not cookie["secure"]
        assert len(cookie.value) == 43  # 256 random bits
    async with site.client.get(f"{site.url}/api/settings") as response:
        assert "Set-Cookie" not in response.headers


async def test_files_health_and_links_set_no_cookie(site: Site) -> None:
    for path in ("/static/main.js", "/healthz", "/api/shared/x", "/v1/models"):
        async with site.client.get(site.url + path) as response:
            assert "Set-Cookie" not in response.headers, path


async def test_the_cookie_is_not_what_the_database_knows(site: Site) -> None:
    async with site.client.get(site.url) as response:
        cookie = response.cookies["fablewright"].value
    await site.call("PUT", "/api/settings", json={"top_k": 3})
    export = await site.get("/api/me/export")
    assert cookie not in str(export)


async def test_behind_a_trusted_proxy_the_clients_address_counts(start_site: StartSite) -> None:
    site = await start_site(trusted_proxies=["127.0.0.0/8"], requests_per_minute=2)
    body = {"model": "tiny", "prompt": "Once", "max_tokens": 1}

    async def ask(forwarded: str) -> int:
        headers = {"X-Forwarded-For": forwarded}
        async with site.client.post(f"{site.url}/v1/completions", json=body, headers=headers) as response:
            return response.status

    assert [await ask("203.0.113.5") for _ in range(3)] == [200, 200, 429]
    assert await ask("203.0.113.6") == 200
    assert await ask("198.51.100.1, 203.0.113.5") == 429  # what stands before our proxy's word may be made up
    assert [await ask(f"2001:db8::{i}") for i in range(3)] == [200, 200, 429]  # one client owns the /64
    assert [await ask(f"::ffff:203.0.113.{i}") for i in (7, 7, 7, 8)] == [200, 200, 429, 200]


async def test_on_a_socket_for_both_an_ipv4_address_is_one_all_the_same(start_site: StartSite) -> None:
    site = await start_site(host="::", requests_per_minute=1, metrics_from=["127.0.0.1/32"])
    async with site.client.get(f"{site.url}/metrics") as response:
        assert response.status == 200
    for _ in range(3):  # the machine's owner is not limited
        await site.call("PUT", "/api/settings", json={"top_k": 3})
    behind = await start_site(host="::", requests_per_minute=1, trusted_proxies=["127.0.0.1/32"])
    statuses = [await _complete(behind.client, behind.url, {"X-Forwarded-For": f"203.0.113.{i}"}) for i in (1, 2, 2)]
    assert statuses == [200, 200, 429]


async def test_visitors_of_a_local_proxy_that_is_not_trusted_are_not_taken_for_the_machines_owner(
    start_site: StartSite,
) -> None:
    site = await start_site(requests_per_minute=2)
    statuses = [await _complete(site.client, site.url, {"X-Forwarded-For": f"203.0.113.{i}"}) for i in range(3)]
    assert statuses == [200, 200, 429]
    async with site.client.get(f"{site.url}/metrics", headers={"X-Forwarded-For": "127.0.0.1"}) as response:
        assert response.status == 403


async def test_without_a_trusted_proxy_forwarded_addresses_are_not_believed(start_site: StartSite) -> None:
    site = await start_site(metrics_from=["203.0.113.0/24"])
    async with site.client.get(f"{site.url}/metrics", headers={"X-Forwarded-For": "203.0.113.5"}) as response:
        assert response.status == 403


async def test_cookies_are_secure_behind_a_proxy_that_speaks_https(start_site: StartSite) -> None:
    site = await start_site(trusted_proxies=["127.0.0.1"])
    async with site.client.get(site.url, headers={"X-Forwarded-Proto": "https"}) as response:
        assert response.cookies["fablewright"]["secure"]
        assert "Strict-Transport-Security" in response.headers


@pytest.mark.parametrize(
    ("origin", "status"), [("http://evil.example", 403), ("null", 403), ("http://[", 403), ("", 200)]
)
async def test_other_sites_pages_cannot_change_anything(site: Site, origin: str, status: int) -> None:
    await site.call("PUT", "/api/settings", status, json={"top_k": 3}, headers={"Origin": origin or site.url})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("[", 403),
        ("localhost:99", 200),
        ("127.0.0.2", 200),
        ("[::1]", 200),
    ],
)
async def test_a_name_that_another_site_leads_here_opens_nothing(site: Site, host: str, status: int) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    await site.call("PUT", "/api/settings", status, json={"top_k": 3}, headers=headers)


@pytest.mark.parametrize(
    "settings", [{"allowed_origins": ["https://desk.example"]}, {"trusted_proxies": ["127.0.0.1"]}, {"host": "::"}]
)
async def test_other_names_are_answered_to_where_somebody_vouches_for_them(
    start_site: StartSite, settings: dict[str, Any]
) -> None:
    site = await start_site(**settings)
    await site.get("/v1/models", headers={"Host": "desk.example"})


async def test_an_origin_that_is_allowed_may(start_site: StartSite) -> None:
    site = await start_site(allowed_origins=["https://desk.example"])
    await site.call("PUT", "/api/settings", 200, json={"top_k": 3}, headers={"Origin": "https://desk.example"})


async def test_a_browser_signs_in_with_a_key_where_one_is_required(start_site: StartSite) -> None:
    site = await start_site(require_key=True)
    _, key = await site.store.keys.make("a friend")
    async with site.client.get(site.url) as response:
        assert (str(response.url), response.status) == (f"{site.url}/signin", 200)
    await site.get("/api/settings", 401)
    await site.call("GET", "/v1/models", 401)
    async with site.client.get(f"{site.url}/ws") as response:
        assert response.status == 401
    async with site.client.post(f"{site.url}/signin", data={"key": "fw-wrong"}) as response:
        assert response.status == 401
        assert "unknown or has been revoked" in await response.text()
    async with site.client.post(f"{site.url}/signin", data={"key": key}) as response:
        assert str(response.url) == f"{site.url}/"
    await site.get("/api/settings")
    async with site.connect() as desk:
        assert (await desk.write()).end["type"] == "done"
    async with site.client.post(f"{site.url}/signout"):
        pass
    await site.get("/api/settings", 401)
    await site.get("/healthz")


@pytest.mark.parametrize("require_key", [True, False])
@pytest.mark.parametrize("way", ["header", "cookie"])
async def test_a_revoked_key_opens_no_stream_on_a_socket_that_it_opened_before(
    start_site: StartSite, require_key: bool, way: str
) -> None:
    site = await start_site(require_key=require_key)
    row, key = await site.store.keys.make("a friend")
    headers = {"Authorization": f"Bearer {key}"} if way == "header" else {"Cookie": f"fablewright_key={key}"}
    async with site.connect(headers=headers) as desk:
        assert (await desk.write("a")).end["type"] == "done"
        await desk.send("start", id="b", prompt="Once", max_tokens=20, pace=40, temperature=0)
        await desk.receive()
        await site.store.keys.revoke(row.id)
        assert (await desk.write("c")).end["code"] == "invalid_api_key"
        assert (await desk.until_end("b"))[-1]["type"] == "done"
        await desk.send("resume", id="d", stream="any", received=0)
        assert (await desk.until_end("d"))[-1]["code"] == "invalid_api_key"


async def test_a_keys_data_is_the_keys_whatever_browser_it_comes_from(start_site: StartSite) -> None:
    site = await start_site(require_key=True)
    _, key = await site.store.keys.make("a friend")
    headers = {"Authorization": f"Bearer {key}"}
    await site.call("PUT", "/api/settings", json={"top_k": 3}, headers=headers)
    async with new_client() as other, other.get(f"{site.url}/api/settings", headers=headers) as response:
        assert (await response.json())["own"] == {"top_k": 3}


async def test_saving_counts_like_a_text_started(start_site: StartSite) -> None:
    site = await start_site(requests_per_minute=2, trusted_proxies=["127.0.0.1"])
    headers = {"X-Forwarded-For": "203.0.113.5"}
    statuses = []
    for _ in range(3):
        async with site.client.put(f"{site.url}/api/settings", json={"top_k": 3}, headers=headers) as response:
            statuses.append(response.status)
    assert statuses == [200, 200, 429]
    assert int(response.headers["Retry-After"]) > 0
    await site.get("/api/settings", headers=headers)


async def test_a_body_that_does_not_arrive_is_given_up(start_site: StartSite) -> None:
    site = await start_site(request_timeout_s=0.2)

    async def trickle() -> AsyncIterator[bytes]:
        yield b'{"top_k":'
        await asyncio.sleep(5)

    error = await site.call("PUT", "/api/settings", 408, data=trickle(), headers={"Content-Type": "application/json"})
    assert error["error"]["code"] == "timeout"


async def test_a_key_that_does_not_arrive_is_given_up_and_guessing_is_limited(start_site: StartSite) -> None:
    site = await start_site(request_timeout_s=0.2, requests_per_minute=2, trusted_proxies=["127.0.0.0/8"])

    async def trickle() -> AsyncIterator[bytes]:
        yield b"key="
        await asyncio.sleep(5)

    headers = {"X-Forwarded-For": "203.0.113.9"}
    assert (await site.call("POST", "/signin", 408, data=trickle(), headers=headers))["error"]["code"] == "timeout"
    async with site.client.post(f"{site.url}/signin", data={"key": "fw-wrong"}, headers=headers) as response:
        assert response.status == 401
    await site.call("POST", "/signin", 429, data={"key": "fw-wrong"}, headers=headers)


@pytest.mark.parametrize(("form", "status"), [("%41=%42&" * 1000, 413), ("a=b&" * 9, 400)])
async def test_a_form_that_is_not_ours_is_refused_unread(site: Site, form: str, status: int) -> None:
    await site.call("POST", "/signin", status, data=form)


async def test_limits_count_by_key(start_site: StartSite) -> None:
    site = await start_site(requests_per_minute=1)
    keys = [(await site.store.keys.make(name))[1] for name in ("a", "b")]
    statuses = [await _complete(site.client, site.url, {"Authorization": f"Bearer {key}"}) for key in (*keys, keys[0])]
    assert statuses == [200, 200, 429]


async def _complete(client: ClientSession, url: str, headers: dict[str, str]) -> int:
    body = {"model": "tiny", "prompt": "Once", "max_tokens": 1}
    async with client.post(f"{url}/v1/completions", json=body, headers=headers) as response:
        return response.status
