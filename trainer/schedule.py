"""How far a run is, and the learning rate that follows from it.

Progress goes from 0 to 1, by steps or by time. A run that must be over at a given time follows the clock, so that the
learning rate reaches its end whatever else the machine was doing.
"""

import math
import time
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field

import torch

_TRAINING_SHARE = 0.95  # of the minutes, at most; the rest is for starting Python and for the last measurement ...
_MEASURED_BY = 0.99  # ... which must be over by then
_LEAST_SHARE = 0.5  # of the minutes, at least, however long that measurement may take
_WARM_UP = 0.02  # of the run
_RATES = 5e-3, 1e-2  # of AdamW, in long runs and in those of ...
_FEW_STEPS = 1500  # ... so few steps; in between it falls with the square root of their number


@dataclass
class Clock:
    """Progress of a run of `steps` steps or `minutes` minutes, whichever ends first; resumed runs go on counting."""

    steps: int | None = None
    minutes: float | None = None
    elapsed_s: float = 0.0  # before this process started
    ended_minutes: float | None = None  # within which it came to its end, once: one of as many has no step left
    now: Callable[[], float] = time.monotonic
    started: InitVar[float | None] = None  # when this process did, by `now`; at this moment if not given
    _started: float = field(init=False)

    def __post_init__(self, started: float | None) -> None:
        self._started = self.now() if started is None else started

    def seconds(self) -> float:
        """Time spent on this run so far, over all its processes."""
        return self.elapsed_s + self.now() - self._started

    def seconds_left(self) -> float:
        """Time that the last measurement may take; infinite for a run of so many steps."""
        return math.inf if self.minutes is None else 60 * _MEASURED_BY * self.minutes - self.seconds()

    def progress(self, step: int, *, next_s: float = 0.0, ending_s: float = 0.0) -> float:
        """How much of the run is over, 0 to 1; all of it where a step of `next_s` seconds would end too late.

        The end of the run, with its last measurement, is expected to take `ending_s` seconds.
        """
        by_step = 0.0 if self.steps is None else step / self.steps
        if self.minutes is None:
            return min(1.0, by_step)
        if self.ended_minutes is not None and self.minutes <= self.ended_minutes:
            return 1.0
        whole_s = 60 * self.minutes
        training_s = max(_LEAST_SHARE * whole_s, min(_TRAINING_SHARE * whole_s, _MEASURED_BY * whole_s - ending_s))
        if next_s > self.seconds_left():
            return 1.0
        return min(1.0, max(by_step, self.seconds() / training_s))


def processor_seconds() -> float:
    """Processor time of this process by the number of threads that compute: wall time, had it the machine to itself."""
    return time.process_time() / torch.get_num_threads()


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.monotonic, "processor": processor_seconds}


def peak_rate(steps: float | None) -> float:
    """The highest learning rate of a run of so many steps; None where nobody knows how many it will be."""
    least, most = _RATES
    return least if steps is None else max(least, most * min(1.0, math.sqrt(_FEW_STEPS / steps)))


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate: a short linear warm-up, then a cosine down to zero."""
    if progress < _WARM_UP:
        return progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


class Plateau:
    """Multiplies the learning rate by `factor` when validation has not improved for `patience` epochs in a row.

    Of each epoch the first validation after its end counts, however many there are.
    """

    def __init__(self, factor: float = 0.5, patience: int = 0) -> None:
        self._factor, self._patience = factor, patience
        self.scale = 1.0
        self.best = math.inf
        self.bad = 0
        self.epoch = 0

    def observe(self, loss: float, *, epoch: int) -> None:
        """Take in a validation loss; `epoch` is how many passes over the training text are complete."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        if loss < self.best:
            self.best, self.bad = loss, 0
        elif self.bad >= self._patience:
            self.scale, self.bad = self.scale * self._factor, 0
        else:
            self.bad += 1
