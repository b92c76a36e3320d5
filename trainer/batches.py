"""Windows of ids for truncated back-propagation: each lane reads one segment after the other."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import CheckpointError, CorpusError

from . import distributed
from .prepare import Data
from .segments import Ordered, Segment, Shuffled, cut_segments, order_by_likeness
from .tokens import Ids

Window = NDArray[np.int64]
_SEGMENT_WINDOWS = 100  # how many windows a lane reads before its state is fresh again


class Source(Protocol):
    """Where a lane gets its next segment."""

    def draw(self, progress: float) -> Segment: ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class Mixture:
    """The books to learn, preceded by other books: at first all pretraining, at the end all target.

    Pretraining takes the first `pretrain_share` of the run; then the share of the target grows from a half to one.
    """

    def __init__(self, target: Source, pretrain: Source, pretrain_share: float, rng: np.random.Generator) -> None:
        self._target, self._pretrain, self._share, self._rng = target, pretrain, pretrain_share, rng

    def draw(self, progress: float) -> tuple[str, Segment]:
        """The next segment, and which ids it points into."""
        later = (progress - self._share) / (1 - self._share)
        if later >= 0 and self._rng.random() < 0.5 + later / 1.6:
            return "target", self._target.draw(progress)
        return "pretrain", self._pretrain.draw(min(1.0, progress / self._share))

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, fit for JSON."""
        rng = self._rng.bit_generator.state
        return {"target": self._target.state(), "pretrain": self._pretrain.state(), "rng": rng}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._target.load_state(state["target"])
        self._pretrain.load_state(state["pretrain"])
        self._rng.bit_generator.state = state["rng"]


class Single:
    """Only the books to learn."""

    def __init__(self, target: Source) -> None:
        self._target = target

    def draw(self, progress: float) -> tuple[str, Segment]:
        """The next segment, and which ids it points into."""
        return "target", self._target.draw(progress)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, fit for JSON."""
        return self._target.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._target.load_state(state)


class Batches:
    """Fills windows (T, B) of inputs and targets from the lanes' segments.

    Where several processes train together, each fills all lanes and takes every `stride`-th: so the lanes read the same
    whatever the number of processes. Where they are `aligned`, segments begin with a window: what is left of the one
    before is filled up, with targets of -1.
    """

    def __init__(
        self,
        ids: dict[str, Ids],
        source: Mixture | Single,
        *,
        lanes: int,
        document_id: int,
        offset: int = 0,
        stride: int = 1,
        aligned: bool = False,
    ) -> None:
        self._ids, self._source, self._document_id, self.aligned = ids, source, document_id, aligned
        self._taken = slice(offset, None, stride)
        self.lanes = lanes
        self.epoch_tokens = len(ids["target"])  # in one pass over the books to learn
        self._rests: list[tuple[str, int, int]] = [("target", 0, 0)] * lanes

    def window(self, steps: int, progress: float) -> tuple[Tensor, Tensor]:
        """The next window: inputs and targets, (T, B) int64."""
        lanes = self.lanes
        inputs = np.empty((lanes, steps), np.int64)
        targets = np.empty((lanes, steps), np.int64)
        for lane in range(lanes):
            self._fill(lane, inputs[lane], targets[lane], progress)
        taken = (torch.from_numpy(rows[self._taken]).t().contiguous() for rows in (inputs, targets))
        return next(taken), next(taken)

    def _fill(self, lane: int, inputs: Window, targets: Window, progress: float) -> None:
        name, position, end = self._rests[lane]
        filled, steps = 0, len(inputs)
        while filled < steps:
            is_fresh = position == end
            if is_fresh and filled and self.aligned:
                inputs[filled:], targets[filled:] = 0, -1
                break
            if is_fresh:
                name, segment = self._source.draw(progress)
                position, end = segment.start, segment.end
            count = min(steps - filled, end - position)
            inputs[filled : filled + count] = self._ids[name][position - 1 : position + count - 1]
            targets[filled : filled + count] = self._ids[name][position : position + count]
            if is_fresh:
                inputs[filled] = self._document_id
            filled, position = filled + count, position + count
        self._rests[lane] = name, position, end

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, fit for JSON."""
        return {"source": self._source.state(), "rests": list(self._rests)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state. Raises CheckpointError if it has other lanes."""
        if len(state["rests"]) != self.lanes:
            raise CheckpointError(
                f"the run was saved with {len(state['rests'])} lanes, but {distributed.world_size()} processes would "
                f"share {self.lanes}: go on with a number of processes that divides the former"
            )
        self._source.load_state(state["source"])
        self._rests = [(name, position, end) for name, position, end in state["rests"]]


def build_batches(
    data: Data, *, lanes: int, bptt: int, pretrain_share: float, seed: int, aligned: bool = False
) -> Batches:
    """Lanes over the data, fewer than `lanes` where the corpus is small, as many in each process."""
    ranks = distributed.world_size()
    tokens = data.counts["train"].tokens
    if tokens < 2 * ranks:
        raise CorpusError(f"expected at least {2 * ranks} tokens to train on, got {tokens}")
    lanes = max(1, min(lanes, tokens // bptt) // ranks) * ranks
    pieces = {name: getattr(data.tokenizer, name) for name in ("document_id", "paragraph_id", "line_id")}
    rngs = [np.random.default_rng([seed, number]) for number in range(3)]
    ids = {"target": data.ids["train"]}
    length = min(_SEGMENT_WINDOWS * bptt, max(1, tokens // lanes))
    target = Shuffled(cut_segments(ids["target"], **pieces, length=length), rngs[0])
    shape = {"lanes": lanes, "document_id": pieces["document_id"], "offset": distributed.rank(), "stride": ranks}
    shape["aligned"] = aligned
    if "pretrain" not in data.ids:
        return Batches(ids, Single(target), **shape)
    ids["pretrain"] = data.ids["pretrain"]
    length = _SEGMENT_WINDOWS * bptt
    others = cut_segments(ids["pretrain"], **pieces, length=length)
    others = order_by_likeness(ids["pretrain"], others, ids["target"], data.tokenizer.vocab_size)
    source = Mixture(target, Ordered(others, rngs[1]), pretrain_share, rngs[2])
    return Batches(ids, source, **shape)
