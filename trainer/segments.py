"""What the lanes of a batch read: segments of books, each from a fresh state.

A segment begins where a paragraph begins, if it can, with `document_id`, exactly as a prompt does; with segments of a
hundred windows the state of about one lane in a hundred is fresh at every window (Melis et al. 2020 reset as many at
random). The end of a book is predicted, the end of a segment inside a book is not.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tokens import Ids, count_ids, find_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Positions [start, end) of the ids; at the end of a book they take in the `document_id` that closes it."""

    start: int
    end: int


def cut_segments(ids: Ids, *, document_id: int, paragraph_id: int, line_id: int, length: int) -> list[Segment]:
    """Cut books into segments of about `length` tokens: at paragraphs, at lines where none is near, else anywhere."""
    borders = find_id(ids, document_id)
    segments: list[Segment] = []
    for border, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        start = border + 1
        places = [start + find_id(ids[start:end], id) + 1 for id in (paragraph_id, line_id)]
        while start < end:
            stop = start + length
            for after in places:
                later = after[np.searchsorted(after, stop) :]
                if len(later) and later[0] <= stop + length // 2:
                    stop = int(later[0])
                    break
            stop = stop if end - stop > length // 4 else end + 1
            segments.append(Segment(start=start, end=stop))
            start = stop
    return segments


def order_by_likeness(ids: Ids, segments: list[Segment], target: Ids, vocab_size: int) -> list[Segment]:
    """Sort segments, those least like the target first: by the mean log ratio of unigram probabilities (Moore & Lewis
    2010)."""
    wanted = count_ids(target, vocab_size) + 1.0
    given = count_ids(ids, vocab_size) + 1.0
    ratio = np.log(wanted / wanted.sum()) - np.log(given / given.sum())
    scores = [float(ratio[ids[segment.start : segment.end]].mean()) for segment in segments]
    return [segments[index] for index in np.argsort(scores, kind="stable")]


@dataclass
class Shuffled:
    """Draws every segment once an epoch, in a new order each time."""

    segments: list[Segment]
    rng: np.random.Generator
    queue: list[int] = field(default_factory=list)

    def draw(self, progress: float) -> Segment:
        """The next segment."""
        if not self.queue:
            self.queue = self.rng.permutation(len(self.segments)).tolist()
        return self.segments[self.queue.pop()]

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, fit for JSON."""
        return {"queue": list(self.queue), "rng": self.rng.bit_generator.state}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.queue, self.rng.bit_generator.state = list(state["queue"]), state["rng"]


@dataclass
class Ordered:
    """Draws segments along a given order: at progress p from around p of the way, those least used first.

    A run that has time to read them all more than once does so in passes: none is read again before the others.
    """

    segments: list[Segment]
    rng: np.random.Generator
    used: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.used = np.zeros(len(self.segments), np.int64)

    def draw(self, progress: float) -> Segment:
        """The next segment."""
        count = len(self.segments)
        middle, reach = progress * count, max(1.0, 0.1 * count)
        low, high = max(0, int(middle - reach)), min(count, int(middle + reach) + 1)
        if self.used[low:high].min() > self.used.min():
            low, high = 0, count
        index = low + int(np.argmin(self.used[low:high] + self.rng.random(high - low)))
        self.used[index] += 1
        return self.segments[index]

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, fit for JSON."""
        return {"used": self.used.tolist(), "rng": self.rng.bit_generator.state}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.used[:] = state["used"]
        self.rng.bit_generator.state = state["rng"]
