"""The OpenAPI description: valid, and complete."""

from openapi_spec_validator import validate

from tests.web.conftest import Site
from web.openapi import OPERATIONS, describe


def test_the_description_validates() -> None:
    validate(describe())


async def test_every_route_is_described_and_every_description_has_its_route(site: Site) -> None:
    routes = {
        (route.method.lower(), route.resource.canonical.replace(":.+", ""))
        for route in site.web.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    told = {(operation.method, operation.path) for operation in OPERATIONS}
    ours = {(method, path) for method, path in routes if path.startswith(("/api/", "/v1/"))}
    assert ours - told == {("get", "/api/openapi.json")}
    assert told <= routes
    assert await site.get("/api/openapi.json") == describe()
