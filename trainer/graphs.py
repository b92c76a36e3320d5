"""What is done again and again to windows of one shape, as a CUDA graph.

A window of an LSTM is a thousand small kernels. Asked for one by one, they take a processor longer than the GPU needs
to run; recorded once, they are asked for all together. What is recorded must look the same each time: windows of one
shape, in which streams begin at the first step alone, and nothing that waits for the GPU.
"""

import logging
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from core.models import State

from . import distributed

log = logging.getLogger(__name__)

Found = tuple[Tensor, ...]

_WARM_UP = 3  # windows, in which libraries choose their kernels and reserve their memory


class Graph:
    """Calls `work` on ids, targets and the state, and from the fourth call on replays it; on a CPU it only calls it.

    `work` returns what it found and the new state, and may change what else lies on the GPU, such as gradients.
    """

    def __init__(self, work: Callable[[Tensor, Tensor, State], tuple[Found, State]], device: torch.device) -> None:
        self._work = work
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._kind: Hashable = None
        self._warm_up = _WARM_UP
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._state: State = ()
        self._found: Found = ()

    def __call__(self, kind: Hashable, ids: Tensor, targets: Tensor, state: State) -> tuple[Found, State]:
        """Do the work once. What was recorded for another `kind` of it is recorded anew; None is never recorded."""
        if self._stream is None or kind is None:
            return self._work(ids, targets, state)
        if kind != self._kind:
            self._kind, self._graph, self._warm_up = kind, None, _WARM_UP
        if self._graph is None and self._warm_up > 0:
            self._warm_up -= 1
            return self._aside(self._stream, ids, targets, state)
        if self._graph is None and not self._record(self._stream, ids, targets, state):
            return self._work(ids, targets, state)
        assert self._graph is not None
        for tensor, value in zip(self._inputs, (ids, targets), strict=True):
            tensor.copy_(value, non_blocking=True)
        if state is not self._state:
            for tensor, value in zip(self._state, state, strict=True):
                tensor.copy_(value)
        self._graph.replay()
        return tuple(x.clone() for x in self._found), self._state

    def _aside(self, stream: torch.cuda.Stream, ids: Tensor, targets: Tensor, state: State) -> tuple[Found, State]:
        """Work on the stream that will be recorded."""
        inputs = ids.to(stream.device), targets.to(stream.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._work(*inputs, state)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, stream: torch.cuda.Stream, ids: Tensor, targets: Tensor, state: State) -> bool:
        """Record the work without doing it. False where that cannot be: then it is not tried again."""
        graph = torch.cuda.CUDAGraph()
        recorded = ids.to(stream.device, copy=True), targets.to(stream.device, copy=True)
        self._inputs, self._state = recorded, tuple(x.clone() for x in state)
        mode = "thread_local" if distributed.world_size() > 1 else "global"  # NCCL watches its events meanwhile
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
                self._found, after = self._work(*recorded, self._state)
                for kept, value in zip(self._state, after, strict=True):
                    kept.copy_(value)
        except RuntimeError as error:
            log.warning("not recorded, and so slower: %s", str(error).partition("\n")[0])
            self._stream = None
            return False
        self._graph = graph
        return True
