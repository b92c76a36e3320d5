"""The page's files, and the headers that keep the page to itself."""

from pathlib import Path

import pytest

from tests.web.conftest import Site


@pytest.mark.parametrize("path", ["/", "/models", "/shared/any"])
async def test_every_view_is_the_page(site: Site, path: str) -> None:
    async with site.client.get(site.url + path) as response:
        assert response.content_type == "text/html"
        assert "<!doctype html>" in await response.text()


async def test_files_are_compressed_and_revalidated(site: Site) -> None:
    url = f"{site.url}/static/main.js"
    async with site.client.get(url) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert (response.content_type, response.charset) == ("text/javascript", "utf-8")
        etag = response.headers["ETag"]
        content = await response.read()
    assert content == (Path("web/static/main.js")).read_bytes()
    async with site.client.get(url, headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    for accepted in ("identity", "gzip;q=0", "br, gzip; q=0.0"):
        async with site.client.get(url, headers={"Accept-Encoding": accepted}) as response:
            assert "Content-Encoding" not in response.headers
            assert await response.read() == content


async def test_the_page_weighs_less_than_150_kb_on_the_wire(site: Site) -> None:
    static = Path("web/static")
    files = [f"/static/{path.relative_to(static)}" for path in static.rglob("*") if path.is_file()]
    weight = 0
    for path in ("/", *(file for file in files if file != "/static/index.html")):
        async with site.client.get(site.url + path, auto_decompress=False) as response:
            assert response.status == 200, path
            weight += len(await response.read())
    assert 0 < weight < 150_000


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/gone.js"]
)
async def test_nothing_but_the_pages_files_is_served(site: Site, path: str) -> None:
    async with site.client.get(site.url + path) as response:
        assert response.status == 404


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/settings", "/v1/models", "/nowhere", "/healthz"])
async def test_every_answer_carries_the_headers(site: Site, path: str) -> None:
    async with site.client.get(site.url + path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "same-origin"
        assert "Server" not in response.headers


async def test_a_mistyped_address_shows_people_a_page_and_programs_json(site: Site) -> None:
    async with site.client.get(f"{site.url}/stories", headers={"Accept": "text/html,*/*;q=0.8"}) as response:
        assert (response.status, response.content_type) == (404, "text/html")
        assert '<a href="/">' in await response.text()
    async with site.client.get(f"{site.url}/stories") as response:
        assert (response.status, response.content_type) == (404, "application/json")
