"""A visitor's stories over HTTP: list, read, save, delete, and the links that show one to others.

A story is a tree of nodes, kept by `core.store`; this module only translates. Another visitor's story is not found.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from aiohttp.web import Request, Response, RouteDef, delete, get, post, put
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from core.errors import InputError
from core.store import Store
from core.store.stories import SNAPSHOT
from core.tables import Node, Share, Story

from .bodies import Body, read_body, respond
from .problems import RefusedError
from .visitors import user_of

_MOST_LISTED = 1000


def _finite(details: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(details, allow_nan=False)
    except ValueError:
        raise ValueError("numbers must be finite") from None
    return details


Details = Annotated[dict[str, Any], AfterValidator(_finite)]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class NodeBody(Body):
    """One step of a story. `text` and `details` are the page's own: the server keeps them and does not join them."""

    id: Id
    parent_id: Id | None = Field(
        default=None, description="left out for a first step; a parent stands before its children"
    )
    kind: Literal["prompt", "edit", "continuation"]
    text: str
    sampling: Details | None = Field(default=None, description="the settings that made a continuation, seed included")
    checkpoint: str | None = Field(default=None, max_length=255)
    prompt_tokens: int = Field(default=0, ge=0, lt=2**31)
    completion_tokens: int = Field(default=0, ge=0, lt=2**31)
    reason: str | None = Field(default=None, max_length=32)
    details: Details = Field(default_factory=dict, description="anything the page wants back")


class StoryBody(Body):
    """A story to save. Nodes are added or replaced by id and never removed: two tabs cannot lose each other's work.

    What is left out stays as it was.
    """

    version: Literal[1] = 1
    title: str | None = Field(default=None, max_length=300)
    current_node_id: Id | None = None
    nodes: list[NodeBody] = Field(default_factory=list, max_length=10_000)
    details: Details | None = None


class StorySummary(BaseModel):
    """A story in a list."""

    id: str
    title: str
    current_node_id: str | None
    created_at: datetime
    updated_at: datetime


class NodeView(NodeBody):
    """A node as it was saved."""

    sampling: dict[str, Any] | None
    details: dict[str, Any]
    created_at: datetime


class StoryView(StorySummary):
    """A whole story."""

    version: Literal[1] = 1
    nodes: list[NodeView]
    details: dict[str, Any]


class StoryList(BaseModel):
    """A visitor's stories, the last touched first."""

    stories: list[StorySummary]


class ShareBody(Body):
    """The text to show and for how long. It is kept as it stands now: later changes to the story do not show."""

    text: str
    title: str = Field(default="", max_length=300)
    days: float = Field(default=30, gt=0, le=365)


class ShareView(BaseModel):
    """A link to a text of a story; whoever has it can read that text until it expires or is withdrawn."""

    id: str
    path: str
    created_at: datetime
    expires_at: datetime


class ShareList(BaseModel):
    """The links to a story that still open, the newest first."""

    shares: list[ShareView]


class SharedStory(BaseModel):
    """What a link shows."""

    title: str
    text: str
    created_at: datetime
    expires_at: datetime


class Stories:
    """The routes under /api/stories and /api/shared."""

    def __init__(self, store: Store, *, timeout_s: float) -> None:
        self._stories = store.stories
        self._timeout_s = timeout_s

    def routes(self) -> list[RouteDef]:
        """Return the routes, in the order of docs/protocol.md."""
        return [
            get("/api/stories", self.list),
            get("/api/stories/{id}", self.read),
            put("/api/stories/{id}", self.save),
            delete("/api/stories/{id}", self.delete),
            get("/api/stories/{id}/shares", self.list_shares),
            post("/api/stories/{id}/shares", self.share),
            delete("/api/stories/{id}/shares/{share}", self.withdraw),
            get("/api/shared/{share}", self.shared),
        ]

    async def list(self, request: Request) -> Response:
        """List the visitor's stories."""
        stories = await self._stories.of_user(user_of(request), limit=_MOST_LISTED)
        return respond(StoryList(stories=[StorySummary(**_summary(story)) for story in stories]))

    async def read(self, request: Request) -> Response:
        """Return one story with all its nodes."""
        story = await self._own(request)
        nodes = await self._stories.nodes(story.id)
        return await asyncio.to_thread(lambda: respond(_view(story, nodes)))  # there may be tens of thousands

    async def save(self, request: Request) -> Response:
        """Create a story under an id that the page chose, or add to it."""
        id = _id(request.match_info["id"])
        body = await read_body(request, StoryBody, timeout_s=self._timeout_s)
        existing = await self._stories.get(id)
        if existing is not None and existing.user_key != user_of(request):
            raise _no_story()
        story = await self._stories.save(
            id,
            source="web",
            user_key=user_of(request),
            title=body.title,
            current_node_id=body.current_node_id,
            details=body.details,
            nodes=[dict(node) for node in body.nodes],
        )
        return respond(StorySummary(**_summary(story)), status=200 if existing else 201)

    async def delete(self, request: Request) -> Response:
        """Delete a story with its nodes and links."""
        story = await self._own(request)
        await self._stories.delete(story.id)
        return Response(status=204)

    async def list_shares(self, request: Request) -> Response:
        """List a story's open links."""
        story = await self._own(request)
        shares = await self._stories.shares(story.id)
        return respond(ShareList(shares=[_share(share) for share in shares]))

    async def share(self, request: Request) -> Response:
        """Make a link to a text as it stands now."""
        body = await read_body(request, ShareBody, timeout_s=self._timeout_s)
        story = await self._own(request)  # not before: it may be deleted while the body is on its way
        node_id = secrets.token_hex(16)
        title = {"title": body.title or story.title}
        snapshot = {"id": node_id, "kind": SNAPSHOT, "text": body.text, "details": title}
        await self._stories.save(story.id, source="web", user_key=story.user_key, nodes=[snapshot])
        share = await self._stories.share(story.id, node_id, lasts=timedelta(days=body.days))
        return respond(_share(share), status=201)

    async def withdraw(self, request: Request) -> Response:
        """Close a link for good."""
        story = await self._own(request)
        open_links = {share.id for share in await self._stories.shares(story.id)}
        if request.match_info["share"] not in open_links:
            raise RefusedError("not_found", "there is no such link, or it no longer opens")
        await self._stories.withdraw(request.match_info["share"])
        return Response(status=204)

    async def shared(self, request: Request) -> Response:
        """Show what a link leads to, to anyone who has it."""
        share_id = request.match_info["share"]
        found = await self._stories.shared(share_id) if share_id.isprintable() else None
        if found is None:
            raise RefusedError("not_found", "there is no such link, or it no longer opens")
        share, node = found
        title = str(node.details.get("title", ""))
        return respond(
            SharedStory(title=title, text=node.text, created_at=share.created_at, expires_at=share.expires_at)
        )

    async def _own(self, request: Request) -> Story:
        id = request.match_info["id"]
        story = await self._stories.get(id) if id.isprintable() else None
        if story is None or story.user_key != user_of(request):
            raise _no_story()
        return story


def _id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,64}", text):
        raise InputError("a story's id must have 16 to 64 letters, digits, - or _, so that it cannot be guessed", "id")
    return text


def _no_story() -> RefusedError:
    return RefusedError("not_found", "there is no such story among yours")


def _summary(story: Story) -> dict[str, Any]:
    return {name: getattr(story, name) for name in StorySummary.model_fields}


def _view(story: Story, nodes: Sequence[Node]) -> StoryView:
    steps = [_node(node) for node in nodes if node.kind != SNAPSHOT]
    return StoryView(**_summary(story), details=story.details, nodes=steps)


def _node(node: Node) -> NodeView:
    return NodeView(**{name: getattr(node, name) for name in NodeView.model_fields})


def _share(share: Share) -> ShareView:
    return ShareView(
        id=share.id,
        path=f"/shared/{share.id}",
        created_at=share.created_at,
        expires_at=share.expires_at,
    )
