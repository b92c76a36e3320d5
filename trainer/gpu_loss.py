"""Softmax, cross-entropy and its gradient on a GPU: one kernel a row, so that logits are read twice and written once.

Triton comes with PyTorch wherever it is built for CUDA.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096  # logits that a row's program has before it at once


def softmax_in_place(logits: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return -log p of targets (N,), float32, and turn logits (N, V) without their bias into the gradient by them.

    There may be more columns than bias (V,): they stay. A target below 0 is none: its loss is 0, and its gradient.
    """
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    if len(logits):
        _row[(len(logits),)](logits, bias, targets, losses, logits.stride(0), size=len(bias), block=_BLOCK, num_warps=8)
    return losses


@triton.jit  # type: ignore[untyped-decorator]
def _row(logits, bias, targets, losses, stride, size: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    target = tl.load(targets + row)
    counts = tl.where(target >= 0, 1.0, 0.0)
    place = tl.maximum(target, 0)
    wanted = tl.load(logits + place).to(tl.float32) + tl.load(bias + place)
    largest = -float("inf")
    total = 0.0
    for start in range(0, size, block):
        places = start + tl.arange(0, block)
        values = tl.load(logits + places, mask=places < size, other=-float("inf")).to(tl.float32)
        values += tl.load(bias + places, mask=places < size, other=0.0)
        higher = tl.maximum(largest, tl.max(values, 0))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(values - higher), 0)
        largest = higher
    log_total = largest + tl.log(total)
    tl.store(losses + row, counts * (log_total - wanted))
    for start in range(0, size, block):
        places = start + tl.arange(0, block)
        values = tl.load(logits + places, mask=places < size, other=-float("inf")).to(tl.float32)
        values += tl.load(bias + places, mask=places < size, other=0.0)
        gradient = counts * (tl.exp(values - log_total) - tl.where(places == target, 1.0, 0.0))
        tl.store(logits + places, gradient.to(logits.dtype.element_ty), mask=places < size)
