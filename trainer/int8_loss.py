"""Softmax, cross-entropy and its gradient with matrix products in int8, for a processor that is fast at them.

Most probabilities are far less than the 127th part of the largest. So the gradient by the logits is rounded up or down
at random, right in the mean: 127 p + u is cut off, with u uniform in [0, 1). Beside the variance p (1 - p) that such a
gradient has by the text's own chance, the p / 127 at most that this adds is nothing.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from core.models.int8_recurrence import FULL, quantise

from .loss import CHUNK_ROWS, SMALLEST

_BEGINNINGS = 2**20  # places in the noise where a chunk's can begin
_BELOW_ONE = 1 - 2**-14  # 127 and this are no 128, in float32


def int8_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log p of targets (N,), in nats, for hidden (N, H): `cross_entropy` for training on a CPU."""
    result: Tensor = _Int8CrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return result


class _Int8CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        features, feature_scale = quantise(hidden.float(), (0, 1))
        matrix, scale = quantise(weight, 1)
        scale = (scale * feature_scale).t()  # (1, V)
        count, size = len(features), len(weight)
        shape = min(CHUNK_ROWS, count), size
        noise = _noise(shape[0] * size + _BEGINNINGS)
        grad_logits = torch.empty(count, size, dtype=torch.int8)
        sums, logits, probabilities = torch.empty(shape, dtype=torch.int32), torch.empty(shape), torch.empty(shape)
        total = torch.zeros(())
        for start in range(0, count, CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            wanted = targets[rows].unsqueeze(1)
            chunk = slice(0, len(wanted))
            torch._int_mm(features[rows], matrix.t(), out=sums[chunk])
            torch.addcmul(bias, logits[chunk].copy_(sums[chunk]), scale, out=logits[chunk])
            torch.softmax(logits[chunk], 1, out=probabilities[chunk])
            total -= probabilities[chunk].gather(1, wanted).clamp_min(SMALLEST).log().sum()
            beginning = int(torch.randint(_BEGINNINGS, ()))
            drawn = noise[beginning : beginning + wanted.numel() * size].view(-1, size)
            grad_logits[rows] = torch.add(drawn, probabilities[chunk], alpha=FULL, out=probabilities[chunk])
            grad_logits[rows].scatter_add_(1, wanted, grad_logits.new_full(wanted.shape, -FULL))
        ctx.save_for_backward(features, feature_scale, weight, grad_logits, total)
        ctx.hidden_dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, feature_scale, weight, grad_logits, total = ctx.saved_tensors
        unit = grad / FULL + 0 * total  # int8 knows no NaN: carry it round the products
        matrix, scale = quantise(weight, 0)
        grad_hidden = torch._int_mm(grad_logits, matrix).float().mul_(scale * unit)
        grad_weight = torch._int_mm(grad_logits.t(), features).float().mul_(feature_scale * unit)
        grad_bias = torch._int_mm(features.new_ones(1, len(features)), grad_logits)[0] * unit
        return grad_hidden.to(ctx.hidden_dtype), grad_weight.to(weight.dtype), grad_bias, None


@lru_cache(maxsize=1)
def _noise(size: int) -> Tensor:
    """Numbers uniform in [0, 1). They are drawn once: for each window anew it would take as long as the products."""
    return torch.rand(size, generator=torch.Generator().manual_seed(0)).mul_(_BELOW_ONE)
