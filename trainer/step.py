"""One step of training: forward and back through a window, the gradient clipped, the weights moved.

The figures of a step lie on the device until they are asked for. On a GPU that is when the next step has been asked of
it: so it never waits for the processor that asks, nor that for it.
"""

from typing import Any

import torch
from torch import Tensor

from core.models import Hidden, State, detach_state

from . import distributed
from .graphs import Graph
from .int8_loss import int8_cross_entropy
from .loss import cross_entropy


def forward(
    model: Any, inputs: Tensor, targets: Tensor, state: State, *, bfloat16: bool, int8: bool
) -> tuple[Tensor, Hidden, State]:
    """Read a window: the sum of its losses in nats, what the network made of its inputs (T, B), and the state after.

    The targets (T * B,) lie on the model's device. Products in int8 are those of the loss, and of the layers of a model
    that knows them; else they are in bfloat16, or in the dtype of the weights.
    """
    model.int8 = int8
    device = targets.device.type
    with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
        hidden, state = model.hidden(inputs, state)
        loss = int8_cross_entropy if int8 else cross_entropy
        return loss(hidden.output.flatten(0, 1), model.output_weight, model.output_bias, targets), hidden, state


class Figures:
    """Numbers on their way from the device."""

    def __init__(self, **figures: Tensor) -> None:
        self._names = list(figures)
        values = torch.stack(list(figures.values()))
        self._values = values.to("cpu", non_blocking=True)
        self._arrival = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]
        if self._arrival is not None:
            self._arrival.record()

    def read(self) -> dict[str, float]:
        """Wait for them."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return dict(zip(self._names, self._values.tolist(), strict=True))


class Stepper:
    """Takes steps with a model, the recurrent state carried from one to the next."""

    def __init__(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        *,
        lanes: int,
        bfloat16: bool,
        int8: bool,
        clip: float,
        activation_penalty: float,
        slowness_penalty: float,
    ) -> None:
        self.state: State = model.init_state(lanes)
        self._model, self._optimizer = model, optimizer
        self._bfloat16, self._int8, self._clip = bfloat16, int8, clip
        self._activation_penalty, self._slowness_penalty = activation_penalty, slowness_penalty
        self._device = model.output_bias.device
        self._gradients = distributed.FlatGradients(model)
        self._graph = Graph(self._both_ways, self._device)

    def take(self, inputs: Tensor, targets: Tensor, *, learning_rate: float, aligned: bool) -> Figures:
        """Learn from a window: inputs and targets (T, B) int64 on the CPU, targets below 0 are none.

        In `aligned` windows streams begin at the first step alone. The figures: loss a token, norm of the gradient
        before it was clipped, largest cell.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        if self._device.type == "cuda":
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        kind = (len(inputs), self._model.dropout_scale) if aligned else None
        (loss,), self.state = self._graph(kind, inputs, targets, self.state)
        buffer = distributed.sum_over_ranks(self._gradients.buffer).div_(distributed.world_size())
        norm = buffer.norm()
        buffer.mul_((self._clip / norm).clamp_(max=1.0))
        self._optimizer.step()
        cell = torch.stack([x.abs().max() for x in self.state[1::2]]).max()
        return Figures(loss=loss, norm=norm, cell=cell)

    def _both_ways(self, inputs: Tensor, targets: Tensor, state: State) -> tuple[tuple[Tensor], State]:
        """The loss a token and the state after the window; the gradients go to their buffer."""
        targets = targets.to(self._device, non_blocking=True).flatten()
        total, hidden, state = forward(self._model, inputs, targets, state, bfloat16=self._bfloat16, int8=self._int8)
        loss = total / (targets >= 0).sum()
        objective = loss
        if self._activation_penalty:
            objective = objective + self._activation_penalty * hidden.output.float().square().mean()
        if self._slowness_penalty and len(inputs) > 1:
            objective = objective + self._slowness_penalty * hidden.raw.float().diff(dim=0).square().mean()
        self._gradients.attach()
        objective.backward()  # type: ignore[no-untyped-call]
        return (loss.detach(),), detach_state(state)
