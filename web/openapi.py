"""The OpenAPI 3.1 description of the HTTP interfaces, made from the very models that read and write the bodies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiohttp.web import Request, Response, RouteDef, get, json_response
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from . import account, checkpoints, health, reports, stories
from . import openai_bodies as openai

_PLACE = "#/components/schemas/{model}"


class ErrorDetails(BaseModel):
    """What went wrong; the codes are in docs/protocol.md."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every error of every route."""

    error: ErrorDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    body: type[BaseModel] | None = None
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=dict)
    streams: bool = False  # may answer with server-sent events
    media: str = "application/json"  # of an answer that has no model
    is_open: bool = False  # needs no key even where keys are required


OPERATIONS: Sequence[Operation] = (
    Operation(
        method="post",
        path="/v1/completions",
        summary="Write on from one prompt or several, as OpenAI's API does",
        body=openai.CompletionBody,
        answers={200: openai.Completion},
        streams=True,
    ),
    Operation(
        method="post",
        path="/v1/chat/completions",
        summary="Write on from the messages' texts, joined as paragraphs",
        body=openai.ChatBody,
        answers={200: openai.ChatCompletion},
        streams=True,
    ),
    Operation(method="get", path="/v1/models", summary="List the checkpoints", answers={200: openai.ModelList}),
    Operation(method="get", path="/v1/models/{id}", summary="Return one checkpoint", answers={200: openai.Model}),
    Operation(
        method="get",
        path="/api/settings",
        summary="Show the settings that hold for the visitor, their ranges and the limits",
        answers={200: account.SettingsView},
    ),
    Operation(
        method="put",
        path="/api/settings",
        summary="Set what the body names; null goes back to the default",
        body=account.SettingsBody,
        answers={200: account.SettingsView},
    ),
    Operation(
        method="get", path="/api/stories", summary="List the visitor's stories", answers={200: stories.StoryList}
    ),
    Operation(
        method="get",
        path="/api/stories/{id}",
        summary="Return a story with its nodes",
        answers={200: stories.StoryView},
    ),
    Operation(
        method="put",
        path="/api/stories/{id}",
        summary="Save a story: nodes are added or replaced, never removed",
        body=stories.StoryBody,
        answers={200: stories.StorySummary, 201: stories.StorySummary},
    ),
    Operation(method="delete", path="/api/stories/{id}", summary="Delete a story and its links", answers={204: None}),
    Operation(
        method="get",
        path="/api/stories/{id}/shares",
        summary="List a story's links that still open",
        answers={200: stories.ShareList},
    ),
    Operation(
        method="post",
        path="/api/stories/{id}/shares",
        summary="Make a link to a text as it stands now",
        body=stories.ShareBody,
        answers={201: stories.ShareView},
    ),
    Operation(method="delete", path="/api/stories/{id}/shares/{share}", summary="Withdraw a link", answers={204: None}),
    Operation(
        method="get",
        path="/api/shared/{share}",
        summary="Show what a link leads to",
        answers={200: stories.SharedStory},
        is_open=True,
    ),
    Operation(
        method="get",
        path="/api/checkpoints",
        summary="List the checkpoints with their sizes and training",
        answers={200: checkpoints.CheckpointList},
    ),
    Operation(
        method="get",
        path="/api/checkpoints/{name}",
        summary="Return a checkpoint with its card and learning curve",
        answers={200: checkpoints.CheckpointDetails},
    ),
    Operation(
        method="get",
        path="/api/reports",
        summary="List the comparisons of recipes",
        answers={200: reports.ReportList},
    ),
    Operation(
        method="get",
        path="/api/reports/{name}",
        summary="Return a comparison in Markdown",
        answers={200: reports.ReportDetails},
    ),
    Operation(
        method="get",
        path="/api/reports/{name}/{drawing}",
        summary="Return a drawing of a comparison",
        media="image/svg+xml",
    ),
    Operation(
        method="post",
        path="/api/copied",
        summary="Find what of a text stands word for word in the training books",
        body=checkpoints.CopiedBody,
        answers={200: checkpoints.CopiedView},
    ),
    Operation(method="get", path="/api/me/export", summary="Give out everything kept about the visitor"),
    Operation(method="delete", path="/api/me", summary="Delete everything kept about the visitor", answers={204: None}),
    Operation(method="get", path="/healthz", summary="Is it alive", answers={200: health.Health}, is_open=True),
    Operation(
        method="get",
        path="/readyz",
        summary="May it be sent work",
        answers={200: health.Health, 503: health.Health},
        is_open=True,
    ),
)


@cache
def describe(version: str = "1") -> dict[str, Any]:
    """Return the whole description, ready for JSON."""
    names, definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fablewright",
            "version": version,
            "description": "Write on with a small model trained on books. See docs/protocol.md, for the WebSocket too.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "where the server requires keys"},
                "visitor": {"type": "apiKey", "in": "cookie", "name": "fablewright"},
            },
        },
    }


class OpenApi:
    """The route /api/openapi.json."""

    def routes(self) -> list[RouteDef]:
        """Return the route."""
        return [get("/api/openapi.json", self.show)]

    async def show(self, request: Request) -> Response:
        """Show the description."""
        return json_response(describe())


_Names = Mapping[Any, Any]  # a model and a mode to the reference of its schema


def _schemas() -> tuple[_Names, dict[str, Any]]:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ErrorBody, "serialization")]
    for operation in OPERATIONS:
        if operation.body:
            wanted.append((operation.body, "validation"))
        wanted += [(answer, "serialization") for answer in operation.answers.values() if answer]
    names, schema = models_json_schema(wanted, ref_template=_PLACE)
    return names, schema["$defs"]


def _operation(operation: Operation, names: _Names) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.method + operation.path.translate(str.maketrans("/{}.", "____")),
        "parameters": [
            {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for part in operation.path.split("/")
            if part.startswith("{")
        ],
        "responses": {str(status): _answer(operation, answer, names) for status, answer in operation.answers.items()},
        "security": [] if operation.is_open else [{}, {"visitor": []}, {"key": []}],
    }
    if not operation.answers:
        described["responses"]["200"] = {"description": "Done", "content": {operation.media: {"schema": {}}}}
    if operation.body:
        schema = names[operation.body, "validation"]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    refused = {"application/json": {"schema": names[ErrorBody, "serialization"]}}
    described["responses"]["default"] = {"description": "Refused, with the reason", "content": refused}
    return described


def _answer(operation: Operation, answer: type[BaseModel] | None, names: _Names) -> dict[str, Any]:
    if answer is None:
        return {"description": "Done; there is nothing to say"}
    content: dict[str, Any] = {"application/json": {"schema": names[answer, "serialization"]}}
    if operation.streams:
        content["text/event-stream"] = {}  # each event's data is a chunk, and the last one's is [DONE]
    return {"description": "Done", "content": content}
