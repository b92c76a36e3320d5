"""Errors as HTTP shows them: one status a code, and one JSON shape, OpenAI's, for every route.

The WebSocket shows the same codes in its `error` messages; the list for users is in docs/protocol.md.
"""

import logging
from collections.abc import Mapping

from aiohttp.typedefs import Handler
from aiohttp.web import HTTPException, Request, RequestKey, Response, StreamResponse, json_response, middleware
from pydantic import ValidationError

from core.errors import CheckpointError, FablewrightError, InputError, StoreError

from .invalid import explain

log = logging.getLogger(__name__)

ERROR_CODE: RequestKey[str] = RequestKey("error_code", str)  # what a request was refused with, for the metrics

_STATUS = {
    "invalid_request": 400,
    "invalid_api_key": 401,
    "forbidden": 403,
    "not_found": 404,
    "unknown_checkpoint": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "timeout": 408,
    "too_large": 413,
    "unsupported_media_type": 415,
    "too_many_streams": 429,
    "rate_limited": 429,
    "busy": 503,
    "closed": 503,
    "store_unavailable": 503,
    "invalid_checkpoint": 500,
}
_CODES = {400: "invalid_request", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}
_NOWHERE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Not here · Fablewright</title>
<link rel="stylesheet" href="/static/styles.css">
<main id="other"><h1>There is nothing here</h1><p><a href="/">To the desk</a></p></main>
"""  # for people who have mistyped an address
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 503: "overloaded_error"}


class RefusedError(FablewrightError):
    """A request this border refuses itself; `code` is one of docs/protocol.md, `headers` go with the answer."""

    def __init__(self, code: str, message: str, field: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.code = code
        self.field = field
        self.headers = headers or {}


def translate(error: Exception) -> FablewrightError:
    """Return what may be shown of an error; anything unexpected is logged and shown as a fault of ours."""
    if isinstance(error, StoreError):
        log.error("the store failed: %s", error)  # with the database's address
        if error.code == StoreError.code:
            return RefusedError(error.code, "the database cannot be used at the moment; please try again later")
        return RefusedError(error.code, "the request holds a value that cannot be stored")
    if isinstance(error, CheckpointError):
        log.error("a checkpoint cannot be used: %s", error)  # with its path
        return RefusedError(error.code, "this checkpoint is damaged, or cannot be written with")
    if isinstance(error, FablewrightError):
        return error
    if isinstance(error, ValidationError):
        return explain(error)
    log.error("unexpected error", exc_info=error)
    return RefusedError("internal", "something went wrong on the server; its log has the details")


def as_json(error: FablewrightError) -> dict[str, object]:
    """Return the body in OpenAI's shape."""
    status = status_of(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    param = error.field if isinstance(error, InputError | RefusedError) else None
    return {"error": {"message": str(error), "type": kind, "param": param, "code": error.code}}


def status_of(error: FablewrightError) -> int:
    """Return the HTTP status that goes with an error's code."""
    return _STATUS.get(error.code, 500)


def respond(error: FablewrightError) -> Response:
    """Return the error as a whole response."""
    headers = error.headers if isinstance(error, RefusedError) else None
    return json_response(as_json(error), status=status_of(error), headers=headers)


@middleware
async def show_problems(request: Request, handler: Handler) -> StreamResponse:
    """Turn whatever a handler raises into a response in the one shape."""
    try:
        return await handler(request)
    except HTTPException as error:
        if error.status < 400:
            raise
        return _from_aiohttp(request, error)
    except TimeoutError:
        problem: FablewrightError = RefusedError("timeout", "the request took too long to arrive")
    except ConnectionError:
        raise  # the client has gone: there is nobody to answer
    except Exception as error:
        problem = translate(error)
    request[ERROR_CODE] = problem.code
    return respond(problem)


def _from_aiohttp(request: Request, error: HTTPException) -> Response:
    messages = {
        404: f"there is nothing at {request.method} {request.path}",
        405: f"{request.path} does not take {request.method}; it takes {error.headers.get('Allow', 'other methods')}",
    }
    message = messages.get(error.status, error.reason or "the request was refused")
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    problem = RefusedError(_CODES.get(error.status, "invalid_request"), message, headers=headers)
    request[ERROR_CODE] = problem.code
    if error.status == 404 and "text/html" in request.headers.get("Accept", ""):
        return Response(status=404, text=_NOWHERE, content_type="text/html")
    response = respond(problem)
    response.set_status(error.status)
    return response
