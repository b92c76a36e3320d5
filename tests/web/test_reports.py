"""The comparisons of recipes: shown where there are any, no trouble where there are none."""

from pathlib import Path

from tests.web.conftest import StartSite


async def test_without_reports_there_are_none_to_show(start_site: StartSite, tmp_path: Path) -> None:
    site = await start_site(reports=tmp_path / "nowhere")
    assert await site.get("/api/reports") == {"reports": []}
    await site.get("/api/reports/recipes", 404)
    await site.get("/api/reports/recipes/curves.svg", 404)


async def test_a_report_and_its_drawings_are_shown_as_soon_as_they_exist(start_site: StartSite, tmp_path: Path) -> None:
    site = await start_site(reports=tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "report.md").write_bytes(b"# Recipes of a caf\xc3\xa9\n\nNaive\xff")
    (tmp_path / "recipes" / "curves-time.svg").write_text("<svg/>")
    told = {"name": "recipes", "title": "Recipes of a café"}
    assert await site.get("/api/reports") == {"reports": [told]}
    markdown = "# Recipes of a café\n\nNaive\ufffd"
    assert await site.get("/api/reports/recipes") == told | {"markdown": markdown}
    async with site.client.get(f"{site.url}/api/reports/recipes/curves-time.svg") as answer:
        assert (answer.content_type, await answer.text()) == ("image/svg+xml", "<svg/>")


async def test_nothing_but_reports_and_drawings_is_given_out(start_site: StartSite, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "report.md").write_text("# Recipes")
    (folder / "recipes" / "notes.txt").write_text("mine")
    (tmp_path / "secret.svg").write_text("<svg/>")
    site = await start_site(reports=folder)
    for path in ("recipes/notes.txt", "recipes/report.md", "recipes/..%2F..%2Fsecret.svg", "..%2Fsecret.svg"):
        await site.get(f"/api/reports/{path}", 404)


async def test_a_report_that_cannot_be_read_is_left_out(start_site: StartSite, tmp_path: Path) -> None:
    (tmp_path / "recipes" / "report.md").mkdir(parents=True)  # a folder in its place
    site = await start_site(reports=tmp_path)
    assert await site.get("/api/reports") == {"reports": []}
    await site.get("/api/reports/recipes", 404)
