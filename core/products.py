"""Matrix products of the decoder: weights packed once, rows that do not depend on their neighbours.

What is multiplied are hidden states, times 127: they lie between -1 and 1, so int8 has one fixed scale for them. Inputs
of any other size go through `ScaledLinear`. `docs/decoder.md` has the measurements behind the choice of kernels.
"""

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from .sampling import round_up

Precision = Literal["int8", "bfloat16", "float32"]

FULL = 127  # how a hidden state of 1 is kept: the largest int8

_TILE = 16  # rows of a float product
_ROWS_AT_ONCE = 512  # rows of weights quantised at once, to spare memory at start
_SMALLEST_SCALE = 1e-12  # an all-zero row needs a scale too


class Linear(Protocol):
    def __call__(self, inputs: Tensor, addend: Tensor) -> Tensor:
        """inputs @ weight.T + addend, (B, N), valid until the next call.

        Inputs (B, K) are hidden states times `FULL` and may be strided; an addend (B, N), not one (N,), is lost.
        """
        ...


class Int8Linear:
    """int8 weights with a scale per output channel; int8 activations, whose range is known, with one fixed scale.

    One row streams the weights through `_int_mm`, many go through oneDNN's packed kernel: both are exact in int32 and
    scale in the same order, so they agree bit for bit. oneDNN's fast path wants unsigned activations, hence the 128.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        outputs, inputs = weight.shape
        self._scales = torch.linalg.vector_norm(weight, torch.inf, 1).clamp_(min=_SMALLEST_SCALE).div_(127)  # (N,)
        quantised = torch.empty_like(weight, dtype=torch.int8)
        for row in range(0, outputs, _ROWS_AT_ONCE):
            rows_now = slice(row, row + _ROWS_AT_ONCE)
            quantised[rows_now] = (weight[rows_now] / self._scales[rows_now].unsqueeze(1)).round_()
        self._scales.div_(FULL)
        self._transposed = quantised.t()  # (K, N), a view: `_int_mm` is fastest on this layout
        self._packed = torch.ops.onednn.qlinear_prepack(quantised, None)
        self._zero_points = torch.zeros(outputs, dtype=torch.int32)
        self._sums = torch.zeros(1, outputs, dtype=torch.int32)
        self._float_sums = torch.zeros(1, outputs)
        self._rounded = torch.empty(rows, inputs)
        self._signed = torch.empty(rows, inputs, dtype=torch.int8)
        self._views: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, inputs: Tensor, addend: Tensor) -> Tensor:
        rows = len(inputs)
        if rows not in self._views:
            signed = self._signed[:rows]
            self._views[rows] = self._rounded[:rows], signed, signed.view(torch.uint8)
        rounded, signed, unsigned = self._views[rows]
        signed.copy_(torch.round(inputs, out=rounded))
        if rows == 1:
            torch._int_mm(signed, self._transposed, out=self._sums)
            return self._float_sums.copy_(self._sums).mul_(self._scales).add_(addend)
        unsigned.bitwise_xor_(128)  # adds 128; copying float to uint8 directly takes five times as long
        product = unsigned, 1.0, 128, self._packed, self._scales, self._zero_points
        sums: Tensor
        if addend.dim() == 1:
            sums = torch.ops.onednn.qlinear_pointwise(*product, addend, 1.0, 0, torch.float32, "none", [], "")
        else:
            sums = torch.ops.onednn.qlinear_pointwise.binary(
                *product, addend, None, 1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "none", [], ""
            )
        return sums


class TiledLinear:
    """A float product in tiles of `_TILE` rows, the last one filled up: the same shape, the same sums, every time."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, rows: int) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight((weight / FULL).to(dtype), _TILE)
        self._inputs = torch.zeros(round_up(rows, _TILE), weight.shape[1], dtype=dtype)

    def __call__(self, inputs: Tensor, addend: Tensor) -> Tensor:
        rows = len(inputs)
        self._inputs[:rows].copy_(inputs)
        tiles = [self._inputs[start : start + _TILE] for start in range(0, rows, _TILE)]
        return torch.cat([self._product(tile) for tile in tiles])[:rows].add_(addend)

    def _product(self, tile: Tensor) -> Tensor:
        sums: Tensor = torch.ops.mkldnn._linear_pointwise(tile, self._weight, None, "none", [], "")
        return sums.float()


def build_linear(weight: Tensor, precision: Precision, rows: int) -> Linear:
    """Pack a weight (N, K) for at most `rows` rows of inputs that are hidden states."""
    if precision == "int8":
        return Int8Linear(weight, rows)
    return TiledLinear(weight, torch.bfloat16 if precision == "bfloat16" else torch.float32, rows)


class ScaledLinear:
    """A product whose inputs may be of any size: each row is brought to the range of hidden states, and back after."""

    def __init__(self, weight: Tensor, precision: Precision, rows: int) -> None:
        self._product = build_linear(weight, precision, rows)
        self._nothing = torch.zeros(len(weight))

    def __call__(self, inputs: Tensor, addend: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(inputs, torch.inf, 1, keepdim=True).clamp_(min=_SMALLEST_SCALE)  # (B, 1)
        sums = self._product((inputs * FULL).div_(size), self._nothing)
        return sums.mul_(size.div_(FULL)).add_(addend)


def pad(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix with zeros below and to the right, up to this shape."""
    if matrix.shape == (rows, columns):
        return matrix
    return nn.functional.pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0]))
