"""A story in Discord: its text, the steps it was written in, where it stands. Kept in the store's tree of nodes."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from core.errors import FablewrightError, StoreError
from core.store import RowsRefusedError, Store
from core.tables import Node

from .places import Place
from .replies import RefusedError

log = logging.getLogger(__name__)

SOURCE: Final = "discord"
KEEP_S = 60 * 60.0  # how long the end of a story waits for a store that is away
LONGEST_PAUSE_S = 30.0
RUNNING, INTERRUPTED = "running", "interrupted"
GONE = "This story is no longer kept. Start a new one with /write."


@dataclass(kw_only=True)
class Story:
    """One story as it stands at `node_id`, or as it is being written there."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    user_key: str
    guild_key: str | None
    prompt: str
    before: str = ""  # what was written up to the current step
    step: str = ""  # what the current step added
    place: Place
    asked: dict[str, Any] = field(default_factory=dict)  # settings of this story alone
    node_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    parent_id: str | None = None  # None: nothing has been written to the prompt
    shown_from: int = 0  # a long prompt is shown from here
    seed: int | None = None
    checkpoint: str | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    reason: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # tokens_per_s, copied
    is_kept: bool = False  # the store has it

    @property
    def is_running(self) -> bool:
        return self.reason == RUNNING

    @property
    def written(self) -> str:
        return self.before + self.step

    @property
    def text(self) -> str:
        return self.prompt + self.written

    def text_before(self, *, again: bool) -> str:
        """Return the text that the next step is written to."""
        return self.prompt + self.before if again else self.text

    def begin_step(self, *, again: bool = False) -> None:
        """Open a new step after the current one, or in its place where it is written `again`."""
        if not again or self.parent_id is None:
            self.before, self.parent_id = self.written, self.node_id
        self.step, self.node_id, self.reason = "", uuid.uuid4().hex, RUNNING
        self.seed, self.tokens, self.facts = None, 0, {}

    @property
    def shown_prompt(self) -> str:
        return ("… " if self.shown_from else "") + self.prompt[self.shown_from :]


class Stories:
    """Keeps the stories of Discord in the store."""

    def __init__(self, store: Store) -> None:
        self._stories = store.stories

    async def save(self, story: Story) -> None:
        """Keep a story's current step and where it stands, all at once."""
        prompt = {"id": story.parent_id, "kind": "prompt", "text": story.prompt}
        await self._stories.save(
            story.id,
            source=SOURCE,
            user_key=story.user_key,
            guild_key=story.guild_key,
            title=story.prompt[:80],
            current_node_id=story.node_id,
            details=_details(story),
            nodes=[_step(story)] if story.is_kept else [prompt, _step(story)],
        )
        story.is_kept = True

    async def load(self, story_id: str) -> Story:
        """Return a story as it stands. Raises RefusedError where it was deleted."""
        row = await self._stories.get(story_id)
        nodes = {node.id: node for node in await self._stories.nodes(story_id)} if row else {}
        current = nodes.get(row.current_node_id or "") if row else None
        if row is None or current is None:
            raise RefusedError(GONE)
        steps = _steps(nodes, current)
        details = dict(row.details)
        return Story(
            id=row.id,
            user_key=row.user_key or "",
            guild_key=row.guild_key,
            prompt=steps[0].text,
            before="".join(step.text for step in steps[1:-1]),
            step=current.text if current.parent_id else "",
            place=Place(**details["place"]),
            asked=details.get("asked", {}),
            shown_from=details.get("shown_from", 0),
            is_kept=True,
            **_standing(current),
        )

    async def step_back(self, story: Story) -> Story:
        """Return the story without its last continuation. Raises RefusedError where there is none."""
        if story.parent_id is None:
            raise RefusedError("There is nothing to undo: nothing has been written after your words.")
        await self._stories.update(story.id, current_node_id=story.parent_id)
        return await self.load(story.id)

    async def save_details(self, story: Story) -> None:
        """Keep where the story stands and the settings asked for it."""
        await self._stories.update(story.id, details=_details(story))

    async def delete(self, story_id: str) -> None:
        await self._stories.delete(story_id)


async def kept(saving: Awaitable[None]) -> bool:
    """Await a save; False where the store is away: a story goes on being written meanwhile."""
    try:
        await saving
    except FablewrightError as error:
        log.warning("a story could not be kept error=%s", error)
        return not isinstance(error, StoreError) or isinstance(error, RowsRefusedError)  # trying again is of no use
    return True


async def kept_at_last(save: Callable[[], Awaitable[bool]]) -> None:
    """Save again and again while the store is away, KEEP_S at most; where the task is cancelled, once."""
    task = asyncio.current_task()
    assert task is not None
    pause_s, began = 1.0, time.monotonic()
    while not (await save() or task.cancelling() or time.monotonic() - began > KEEP_S):
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _step(story: Story) -> dict[str, Any]:
    return {
        "id": story.node_id,
        "parent_id": story.parent_id,
        "kind": "continuation",
        "text": story.step,
        "sampling": {"seed": story.seed},
        "checkpoint": story.checkpoint,
        "prompt_tokens": story.prompt_tokens,
        "completion_tokens": story.tokens,
        "reason": story.reason,
        "details": story.facts,
    }


def _details(story: Story) -> dict[str, Any]:
    place = asdict(story.place) if story.is_running else story.place.without_token()
    return {"place": place, "asked": story.asked, "shown_from": story.shown_from}


def _steps(nodes: dict[str, Node], current: Node) -> list[Node]:
    """Return the way from the prompt to `current`."""
    steps = [current]
    while steps[0].parent_id is not None:
        steps.insert(0, nodes[steps[0].parent_id])
    return steps


def _standing(node: Node) -> dict[str, Any]:
    return {
        "node_id": node.id,
        "parent_id": node.parent_id,
        "seed": (node.sampling or {}).get("seed"),
        "checkpoint": node.checkpoint,
        "prompt_tokens": node.prompt_tokens,
        "tokens": node.completion_tokens,
        "reason": node.reason,
        "facts": dict(node.details),
    }
