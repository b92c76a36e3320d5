"""Softmax and cross-entropy taken in chunks, gradients made on the way.

The logits of a window would be the largest tensor of the step; here only a chunk of them is ever in float32, and its
softmax gives both the loss and the gradient. On a GPU one kernel does the same.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ROWS = 128  # a chunk of logits stays in the cache
_ALIGNED = 8  # columns: of any other number of them, tensor cores make products several times slower
HAS_TRITON = find_spec("triton") is not None
SMALLEST = torch.finfo(torch.float32).tiny  # where a probability underflows its loss is taken for 87 nats


def cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log p of targets (N,), in nats, for hidden (N, H). On a GPU with Triton, targets below 0 do not count.

    Under autocast the products run in autocast's dtype; the softmax is float32 always.
    """
    if not torch.is_grad_enabled():  # `needs_input_grad` is true even then
        hidden, weight, bias = hidden.detach(), weight.detach(), bias.detach()
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    result: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, dtype)  # type: ignore[no-untyped-call]
    return result


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        features, matrix, offset = hidden.to(dtype), weight.to(dtype), bias.float()
        needs_grad = any(ctx.needs_input_grad)
        ctx.dtypes, ctx.size = (hidden.dtype, weight.dtype), len(weight)
        if hidden.is_cuda and HAS_TRITON:
            from .gpu_loss import softmax_in_place

            matrix = functional.pad(matrix, (0, 0, 0, -len(matrix) % _ALIGNED))
            logits = features @ matrix.t()
            total = softmax_in_place(logits, offset, targets).sum()
            if needs_grad:
                ctx.save_for_backward(features, matrix, logits)
            return total
        grad_logits = features.new_empty(len(features), len(weight)) if needs_grad else None
        shape = min(CHUNK_ROWS, len(features)), len(weight)
        logits, probabilities = offset.new_empty(shape), offset.new_empty(shape)
        for start in range(0, len(features), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            wanted = targets[rows].unsqueeze(1)
            count = len(wanted)
            torch.add(features[rows] @ matrix.t(), offset, out=logits[:count])  # (rows, V)
            if grad_logits is None:
                total -= logits[:count].log_softmax(1).gather(1, wanted).sum()
                continue
            torch.softmax(logits[:count], 1, out=probabilities[:count])
            total -= probabilities[:count].gather(1, wanted).clamp_min(SMALLEST).log().sum()
            probabilities[:count].scatter_add_(1, wanted, probabilities.new_full((count, 1), -1.0))
            grad_logits[rows] = probabilities[:count]
        if grad_logits is not None:
            ctx.save_for_backward(features, matrix, grad_logits)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, matrix, grad_logits = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        grad_hidden = (grad_logits @ matrix).to(hidden_dtype).mul_(grad)
        grad_weight = (grad_logits.t() @ features)[: ctx.size].to(weight_dtype).mul_(grad)
        grad_bias = grad_logits.sum(0)[: ctx.size].float() * grad  # bfloat16: seven times faster, summed in float32
        return grad_hidden, grad_weight, grad_bias, None, None
