"""Request bodies: read whole, within their limits, and checked by a pydantic model."""

import asyncio
from typing import TypeVar

from aiohttp.web import Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from .invalid import explain
from .problems import RefusedError


class Body(BaseModel):
    """A JSON body: no unknown fields, no strings for numbers, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


AnyBody = TypeVar("AnyBody", bound=BaseModel)


async def read_bytes(request: Request, *, timeout_s: float) -> bytes:
    """Return the body. Raises TimeoutError where it does not arrive in time."""
    async with asyncio.timeout(timeout_s):
        return await request.read()


async def read_body(request: Request, model: type[AnyBody], *, timeout_s: float) -> AnyBody:
    """Return the body as `model`. Raises RefusedError or InputError that says what is wrong with it."""
    if request.content_type != "application/json":
        got = request.headers.get("Content-Type", "none")
        raise RefusedError("unsupported_media_type", f"Content-Type must be application/json, got {got[:100]}")
    content = await read_bytes(request, timeout_s=timeout_s)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise explain(error) from None


def respond(view: BaseModel, status: int = 200) -> Response:
    """Return a model as a JSON response."""
    return Response(text=view.model_dump_json(), status=status, content_type="application/json")
