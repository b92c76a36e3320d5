"""The small print under a story: how it stands and how it was made."""

from core.requests import Queued

from .story import INTERRUPTED, RUNNING, Story

_ENDINGS = {
    "end": "the end",
    "cancelled": "stopped",
    "paused": "Discord lets me write for 15 minutes at a time: press Continue",
    "shutdown": "interrupted by a restart: press Continue",
    INTERRUPTED: "interrupted by a restart: press Continue",
    "error": "interrupted by an error: press Continue",
}


def waiting(queue: Queued) -> str:
    """Say where in the queue the story waits."""
    return f"number {queue.position} in the queue, about {max(1, round(queue.estimate_s))} s"


def standing(story: Story) -> str:
    """Say how a story was made, or how far it is."""
    if story.reason == RUNNING:
        return f"writing… · seed {story.seed}"
    if story.seed is None:
        return "press Continue to have it written on"
    speed, copied = story.facts.get("tokens_per_s"), story.facts.get("copied")
    facts = [f"seed {story.seed}", f"{story.tokens} token{'' if story.tokens == 1 else 's'}"]
    facts += [f"{speed:,.{0 if speed >= 100 else 1}f} tokens/s"] if speed else []
    facts += [f"{copied:.0%} copied from the books"] if copied is not None else []
    facts += [_ENDINGS[story.reason]] if story.reason in _ENDINGS else []
    return " · ".join(facts)
