"""The comparison of recipes: shown where there is one, no trouble where there is none."""

from pathlib import Path

from tests.web.conftest import Site, StartSite


async def test_without_a_report_there_is_none_to_show(site: Site) -> None:
    assert await site.get("/api/report") == {"markdown": None}
    await site.get("/api/report/curves-time.svg", 404)


async def test_a_report_and_its_drawings_are_shown_as_soon_as_they_exist(start_site: StartSite, tmp_path: Path) -> None:
    site = await start_site(report=tmp_path / "new" / "report.md")
    assert await site.get("/api/report") == {"markdown": None}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "report.md").write_bytes(b"# Recipes\n\ncaf\xff")
    (tmp_path / "new" / "curves.svg").write_text("<svg/>")
    assert await site.get("/api/report") == {"markdown": "# Recipes\n\ncaf\ufffd"}
    async with site.client.get(f"{site.url}/api/report/curves.svg") as answer:
        assert (answer.content_type, await answer.text()) == ("image/svg+xml", "<svg/>")


async def test_nothing_but_drawings_beside_the_report_is_given_out(start_site: StartSite, tmp_path: Path) -> None:
    (tmp_path / "secret.svg").write_text("<svg/>")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("mine")
    site = await start_site(report=tmp_path / "in" / "report.md")
    for name in ("notes.txt", "report.md", "..%2Fsecret.svg", "%2E%2E/secret.svg", ".svg"):
        await site.get(f"/api/report/{name}", 404)


async def test_a_report_that_cannot_be_read_is_none(start_site: StartSite, tmp_path: Path) -> None:
    site = await start_site(report=tmp_path)  # a folder
    assert await site.get("/api/report") == {"markdown": None}
