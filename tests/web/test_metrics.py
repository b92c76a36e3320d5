"""/metrics tells what happened, and the dashboard asks only for what /metrics tells."""

import json
import re
from pathlib import Path

from tests.web.conftest import Site, StartSite


async def metrics(site: Site) -> dict[str, float]:
    async with site.client.get(f"{site.url}/metrics") as response:
        assert response.content_type == "text/plain"
        lines = (await response.text()).splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


async def test_a_generation_is_counted_at_every_station(site: Site) -> None:
    async with site.connect() as desk:
        written = await desk.write(max_tokens=20, seed=1)
        await desk.send("start", id="bad", prompt="Once", temperature=9)
        await desk.until_end("bad")
        told = await metrics(site)
        assert told["web_sockets_open"] == 1
    tokens = written.end["completion_tokens"]
    assert told['web_tokens_total{source="web"}'] == tokens
    assert told['engine_tokens_total{checkpoint="tiny"}'] >= tokens
    assert told['engine_prompt_tokens_total{checkpoint="tiny"}'] == written.end["prompt_tokens"]
    assert told[f'web_generations_total{{reason="{written.end["reason"]}",source="web"}}'] == 1
    assert told['web_time_to_first_token_seconds_count{source="web"}'] == 1
    assert told['web_streams_open{source="web"}'] == 0
    assert told['web_errors_total{code="invalid_request"}'] == 1
    assert told["log_rows_total"] >= 1
    assert told["log_database_away"] == 0


async def test_requests_are_counted_by_route_and_not_by_address(site: Site) -> None:
    for number in range(3):
        await site.get(f"/api/shared/{number}", 404)
        await site.get(f"/nowhere/{number}", 404)
    told = await metrics(site)
    assert told['web_request_seconds_count{method="GET",route="/api/shared/{share}",status="404"}'] == 3
    assert told['web_request_seconds_count{method="other",route="none",status="404"}'] == 3
    assert told['web_errors_total{code="not_found"}'] == 6


async def test_strangers_may_not_read_them(start_site: StartSite) -> None:
    site = await start_site(metrics_from=[])
    assert (await site.get("/metrics", 403))["error"]["code"] == "forbidden"


async def test_nothing_that_a_visitor_wrote_is_in_them(site: Site) -> None:
    async with site.connect() as desk:
        await desk.write(prompt="A secret of mine", seed=1)
    async with site.client.get(f"{site.url}/metrics") as response:
        assert "secret" not in await response.text()


async def test_the_dashboard_asks_only_for_metrics_that_are_there(site: Site) -> None:
    async with site.connect() as desk:
        await desk.write(seed=1)
    await site.get("/nowhere", 404)
    told = {name.partition("{")[0] for name in await metrics(site)}
    dashboard = json.loads(Path("docs/deploy/grafana.json").read_text(encoding="utf-8"))
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert set(re.findall(r"\b(?:web|engine|log|process)_[a-z_]+\b", asked)) <= told
