"""Data-parallel training under torchrun: gloo on CPU, NCCL on GPUs; a lone process needs none of it."""

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

_PATIENCE = timedelta(hours=2)  # for rank 0, which lays the books out alone


def rank() -> int:
    """This process's number, 0 for the one that writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def start(device: torch.device) -> torch.device:
    """Join the others, if torchrun started this process; returns the device of this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"  # weights begin on the CPU
    distributed.init_process_group(backend, timeout=_PATIENCE)
    return device


def stop() -> None:
    """Leave the others."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def barrier() -> None:
    """Wait for the others."""
    if distributed.is_initialized():
        distributed.barrier()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place."""
    if distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor


def from_first(values: Sequence[float], device: torch.device) -> list[float]:
    """Rank 0's values, for every rank."""
    if not distributed.is_initialized():
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(tensor, 0)
    return [float(value) for value in tensor]


def copy_from_first(tensor: Tensor) -> None:
    """Overwrite a tensor with rank 0's."""
    if distributed.is_initialized():
        distributed.broadcast(tensor, 0)


def interleave(parts: Sequence[Tensor]) -> Tensor:
    """Join (S, B, ...) of lanes dealt out in turn, as `Batches` deals them, to (S, B of all, ...)."""
    return torch.stack(list(parts), 2).flatten(1, 2)


class FlatGradients:
    """All gradients in one buffer, so that one call adds them up over the processes."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = list(model.parameters())
        first = self._parameters[0]
        self.buffer = first.new_zeros(sum(parameter.numel() for parameter in self._parameters))

    def attach(self) -> None:
        """Zero the gradients and make each a view into the buffer."""
        self.buffer.zero_()
        offset = 0
        for parameter in self._parameters:
            parameter.grad = self.buffer[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()
