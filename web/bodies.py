"""Request bodies: read whole, within their limits, and checked by a pydantic model."""

import asyncio
from typing import TypeVar

from aiohttp.web import HTTPRequestEntityTooLarge, Request, RequestPayloadError, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from .invalid import explain
from .problems import RefusedError


class Body(BaseModel):
    """A JSON body: no unknown fields, no strings for numbers, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


AnyBody = TypeVar("AnyBody", bound=BaseModel)


async def read_bytes(request: Request, *, timeout_s: float, most_bytes: int | None = None) -> bytes:
    """Return the body, of at most `most_bytes`, or as many as the server takes anywhere.

    Raises RefusedError for one that is longer or damaged, TimeoutError where it does not arrive in time.
    """
    most_bytes = most_bytes or request.client_max_size
    try:
        async with asyncio.timeout(timeout_s):
            return await request.clone(client_max_size=most_bytes).read()
    except HTTPRequestEntityTooLarge:
        raise RefusedError("too_large", f"the request body must be at most {most_bytes} bytes") from None
    except RequestPayloadError:
        request.content.feed_eof()  # or aiohttp would read on after the answer, and log what it finds as a fault
        request.protocol.close()
        message = "the request body cannot be read as its Content-Encoding or Transfer-Encoding says"
        raise RefusedError("invalid_request", message, headers={"Connection": "close"}) from None


async def read_body(
    request: Request, model: type[AnyBody], *, timeout_s: float, most_bytes: int | None = None
) -> AnyBody:
    """Return the body as `model`. Raises RefusedError or InputError that says what is wrong with it."""
    if request.content_type != "application/json":
        got = request.headers.get("Content-Type", "none")
        raise RefusedError("unsupported_media_type", f"Content-Type must be application/json, got {got[:100]}")
    content = await read_bytes(request, timeout_s=timeout_s, most_bytes=most_bytes)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise explain(error) from None


def respond(view: BaseModel, status: int = 200) -> Response:
    """Return a model as a JSON response."""
    return Response(text=view.model_dump_json(), status=status, content_type="application/json")
