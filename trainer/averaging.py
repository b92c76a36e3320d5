"""Averaged weights: the mean over all steps since validation stopped getting better.

The trigger is that of NT-ASGD (Merity et al. 2017, algorithm 1): non-monotonically, with a memory of the last few
epochs, so that noise does not set it off.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class TriggeredAverage:
    """The mean of the weights, once triggered; until then there is none."""

    def __init__(self, model: nn.Module, *, patience: int = 5) -> None:
        self._parameters = list(model.parameters())
        self._patience = patience
        self._losses: list[float] = []
        self._count = 0
        self._mean: list[Tensor] = []

    @property
    def is_on(self) -> bool:
        """Whether averaging has begun."""
        return bool(self._mean)

    def observe(self, loss: float) -> None:
        """Take in an epoch's validation loss; begin to average if it is above the best of those over `patience` ago."""
        earlier = self._losses[: -self._patience]
        if not self.is_on and loss > min(earlier, default=math.inf):
            self._mean, self._count = [parameter.detach().clone() for parameter in self._parameters], 1
        self._losses.append(loss)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        if self.is_on:
            self._count += 1
            for mean, parameter in zip(self._mean, self._parameters, strict=True):
                mean.lerp_(parameter, 1 / self._count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean in the place of the weights, to validate and to save it, and put them back."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, parameter in zip(self._mean, self._parameters if self.is_on else [], strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """What a resumed run needs, for the file of tensors ..."""
        return {f"mean.{number}": mean for number, mean in enumerate(self._mean)}

    def state(self) -> dict[str, Any]:
        """... and for the file of facts."""
        return {"losses": self._losses, "count": self._count}

    def load_state(self, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Go on from a saved state."""
        self._losses, self._count = list(state["losses"]), state["count"]
        if self._count:
            self._mean = [tensors[f"mean.{number}"] for number in range(len(self._parameters))]
