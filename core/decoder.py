"""The network as it is run: any LSTM checkpoint with its weights folded, packed and quantised once at load.

The embedding and the first layer's input matrix fold into one gate table, a row per token (exact in every precision).
What remains to be multiplied are hidden states, which lie between -1 and 1: int8 has one scale per output channel for
the weights and one fixed scale for all activations. Integer products are exact, so a row's logits do not depend on its
neighbours. float32 and bfloat16 products run in tiles of always the same shape, because a GEMM library may choose
another order of summation for another number of rows.

Element-wise kernels treat the last few elements of a run differently from the rest; every width is padded so that no
row ever holds such a rest, however many rows and threads there are. `docs/decoder.md` has the measurements behind
these choices.

The decoder holds the state of many slots and moves rows between them and its batch; it knows nothing of tokens' text,
sampling or scheduling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .models import RecurrentWeights
from .sampling import BLOCK, round_up

Precision = Literal["int8", "bfloat16", "float32"]

_VECTOR = 32  # floats that one turn of torch's element-wise loops takes on AVX-512; fewer elsewhere
_TILE = 16  # rows of a float product
_ROWS_AT_ONCE = 512  # rows of weights quantised at once, to spare memory at start
_SMALLEST_SCALE = 1e-12  # an all-zero row needs a scale too
_FULL = 127  # how a hidden state of 1 is kept: the largest int8
_MINUS_FULL = torch.tensor(-float(_FULL))  # a tensor, because making one of a number takes longer than a small product


class Decoder:
    """Runs steps for rows of a batch. Not thread-safe: one thread owns it, fastest under `torch.inference_mode`.

    A stream's state is one row: the hidden states of all layers, then their cells. What a layer reads, the hidden
    states of the layer below and its own, is a run of columns, and nothing is copied between layers.
    """

    def __init__(
        self,
        weights: RecurrentWeights,
        *,
        precision: Precision = "int8",
        slots: int = 1,
        max_rows: int = 1,
        threads: int | None = None,
        unwritable_ids: Sequence[int] = (),
    ) -> None:
        threads = threads or torch.get_num_threads()
        self.max_rows = max_rows
        self.vocab_size = len(weights.embedding)
        self.padded_vocab_size = round_up(self.vocab_size, BLOCK * threads)
        self.widths = tuple(layer.weight_hh.shape[1] for layer in weights.layers)
        padded = [round_up(width, _VECTOR * threads) for width in self.widths]
        with torch.no_grad():
            self._output_bias = torch.full((self.padded_vocab_size,), -torch.inf)
            self._output_bias[: self.vocab_size] = weights.output_bias.detach()
            self._output_bias[list(unwritable_ids)] = -torch.inf
            output_weight = _pad(weights.output_weight.detach().float(), self.padded_vocab_size, padded[-1])
            self._output = _build_linear(output_weight, precision, max_rows)
            inputs = (weights.embedding.shape[1], *padded[:-1])
            layers = []
            for number in reversed(range(len(padded))):  # the first and largest last, when the others' copies are gone
                layer, width = weights.layers[number], padded[number]
                weight_ih = _prepare(layer.weight_ih, width, inputs[number])
                matrix = _prepare(layer.weight_hh, width, width)
                addend = _prepare(layer.bias.unsqueeze(1), width, 1).squeeze(1)
                if number == 0:  # gate table (V, 4H)
                    addend = torch.addmm(addend, weights.embedding.detach().float(), weight_ih.t())
                else:
                    matrix = torch.cat((weight_ih, matrix), 1)
                product = _build_linear(matrix, precision, max_rows)
                layers.append(_Layer(product, addend, max_rows))
            self._layers = layers[::-1]
            self._batch = torch.zeros(max_rows, 2 * sum(padded))
            self._store = torch.zeros(slots, 2 * sum(padded))
        self._padded = padded
        starts = accumulate((*padded, *padded), initial=0)
        used = [torch.arange(start, start + width) for start, width in zip(starts, self.widths * 2, strict=False)]
        self._used = torch.cat(used)  # columns of a state row, without the padding
        self._views: dict[int, _Views] = {}
        self._resident: list[int] = []  # whose state stands in the batch; newer there than in the store

    @property
    def state_size(self) -> int:
        """Floats in one stream's state."""
        return 2 * sum(self.widths)

    def reset(self, slot: int) -> None:
        """Put the zero state into a slot."""
        self._row_of(slot).zero_()

    def read_state(self, slot: int) -> NDArray[np.float32]:
        """A copy of one slot's state, (state_size,)."""
        return self._row_of(slot)[self._used].numpy()

    def write_state(self, slot: int, values: NDArray[np.float32]) -> None:
        """Put a state that `read_state` gave into a slot."""
        self._row_of(slot)[self._used] = torch.from_numpy(values)

    @property
    def hidden(self) -> NDArray[np.float32]:
        """127 times the last layer's hidden state for each row of the last call, (B, H), valid until the next."""
        return self._rows(len(self._resident)).layers[-1].hidden[:, : self.widths[-1]].numpy()

    def advance(self, ids: Sequence[int], slots: Sequence[int]) -> None:
        """Feed one token to each of some slots, without asking for logits: how prompts are read."""
        self._admit(slots)
        self._recur(ids)

    def step(self, ids: Sequence[int], slots: Sequence[int]) -> Tensor:
        """Feed one token to each of some slots. Returns logits (B, padded V), valid until the next call.

        A row whose state is no longer finite has NaN among its logits.
        """
        self._admit(slots)
        self._recur(ids)
        rows = self._rows(len(ids))
        logits = self._output(rows.layers[-1].hidden, self._output_bias)
        logits[:, 0].add_(rows.cells.sum(1), alpha=0)  # int8 knows no NaN: carry it round the products
        return logits

    def _recur(self, ids: Sequence[int]) -> None:
        """Take one step of every layer."""
        rows = self._rows(len(ids))
        rows.ids_array[:] = ids
        for layer, views in zip(self._layers, rows.layers, strict=True):
            layer.step(views, rows.ids)

    def _admit(self, slots: Sequence[int]) -> None:
        """Bring the state of these slots into the batch; nothing moves while the slots stay the same."""
        assert len(slots) <= self.max_rows, (len(slots), self.max_rows)
        if self._resident == slots:
            return
        if self._resident:
            self._store.index_copy_(0, torch.tensor(self._resident), self._batch[: len(self._resident)])
        self._resident = list(slots)
        torch.index_select(self._store, 0, torch.tensor(self._resident), out=self._batch[: len(slots)])

    def _row_of(self, slot: int) -> Tensor:
        """Where a slot's state stands now: in the batch if it is there, else in the store."""
        return self._batch[self._resident.index(slot)] if slot in self._resident else self._store[slot]

    def _rows(self, count: int) -> "_Views":
        """The first rows of every buffer; kept, because slicing ten tensors takes longer than a small step."""
        if count not in self._views:
            batch, ids = self._batch[:count], torch.zeros(count, dtype=torch.long)
            hidden, cells = batch.chunk(2, 1)
            ends, layers = accumulate(self._padded), []
            for number, (layer, end) in enumerate(zip(self._layers, ends, strict=True)):
                own = slice(end - self._padded[number], end)
                below = slice(own.start - (self._padded[number - 1] if number else 0), own.stop)
                layers.append(layer.rows(inputs=hidden[:, below], hidden=hidden[:, own], cell=cells[:, own]))
            self._views[count] = _Views(ids=ids, ids_array=ids.numpy(), layers=layers, cells=cells)
        return self._views[count]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Views:
    """Views of the decoder's buffers, (B, ...) each."""

    ids: Tensor
    ids_array: NDArray[np.int64]
    layers: list["_LayerViews"]
    cells: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerViews:
    """Views of one layer's part of the batch, (B, ...) each."""

    inputs: Tensor  # hidden states of the layer below and of this one; of this one alone in the first
    hidden: Tensor
    cell: Tensor
    gates: Tensor
    squashed: Tensor


class _Layer:
    """One LSTM layer.

    It keeps 127 times the hidden state, ready to be rounded to int8, and twice the cell: with
    tanh(x) = 2 sigmoid(2x) - 1 and the factors moved into the weights, a step is one sigmoid for all gates, one for the
    cell and five products and sums, all in place.
    """

    def __init__(self, product: "_Linear", addend: Tensor, rows: int) -> None:
        width = addend.shape[-1] // 4
        self._product = product
        self._addend = addend  # (4H,) bias, or (V, 4H) gate table
        self._gates = torch.zeros(rows, 4 * width)
        self._squashed = torch.zeros(rows, width)

    def rows(self, *, inputs: Tensor, hidden: Tensor, cell: Tensor) -> _LayerViews:
        """These views, with those of the layer's own buffers."""
        gates, squashed = self._gates[: len(cell)], self._squashed[: len(cell)]
        return _LayerViews(inputs=inputs, hidden=hidden, cell=cell, gates=gates, squashed=squashed)

    def step(self, rows: _LayerViews, ids: Tensor) -> None:
        """Take one step of the LSTM."""
        is_table = self._addend.dim() == 2
        addend = torch.index_select(self._addend, 0, ids, out=rows.gates) if is_table else self._addend
        i, f, g, o = self._product(rows.inputs, addend).sigmoid_().chunk(4, 1)  # (B, H) each
        rows.cell.mul_(f).addcmul_(i, g, value=4).sub_(i, alpha=2)
        torch.sigmoid(rows.cell, out=rows.squashed)
        torch.mul(o, _MINUS_FULL, out=rows.hidden).addcmul_(o, rows.squashed, value=2 * _FULL)


class _Linear(Protocol):
    def __call__(self, inputs: Tensor, addend: Tensor) -> Tensor:
        """inputs @ weight.T + addend, (B, N), valid until the next call.

        Inputs (B, K) are hidden states times `_FULL` and may be strided; an addend (B, N), not one (N,), is lost.
        """
        ...


class _Int8Linear:
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
        self._scales.div_(_FULL)
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


class _TiledLinear:
    """A float product in tiles of `_TILE` rows, the last one filled up: the same shape, the same sums, every time."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, rows: int) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight((weight / _FULL).to(dtype), _TILE)
        self._inputs = torch.zeros(round_up(rows, _TILE), weight.shape[1], dtype=dtype)

    def __call__(self, inputs: Tensor, addend: Tensor) -> Tensor:
        rows = len(inputs)
        self._inputs[:rows].copy_(inputs)
        tiles = [self._inputs[start : start + _TILE] for start in range(0, rows, _TILE)]
        return torch.cat([self._product(tile) for tile in tiles])[:rows].add_(addend)

    def _product(self, tile: Tensor) -> Tensor:
        sums: Tensor = torch.ops.mkldnn._linear_pointwise(tile, self._weight, None, "none", [], "")
        return sums.float()


def _build_linear(weight: Tensor, precision: Precision, rows: int) -> _Linear:
    if precision == "int8":
        return _Int8Linear(weight, rows)
    return _TiledLinear(weight, torch.bfloat16 if precision == "bfloat16" else torch.float32, rows)


def _pad(matrix: Tensor, rows: int, columns: int) -> Tensor:
    if matrix.shape == (rows, columns):
        return matrix
    return nn.functional.pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0]))


def _prepare(gates: Tensor, width: int, columns: int) -> Tensor:
    """Pad one weight of a layer, (4H, K), to `width` units, whose state stays zero, and double its g gate.

    With the g gate doubled, tanh is a sigmoid too: torch's is several times faster on CPU, and one call does all gates.
    """
    gates = gates.detach().view(4, -1, gates.shape[1])
    padded = torch.zeros(4, width, columns)
    padded[:, : gates.shape[1], : gates.shape[2]] = gates
    padded[2] *= 2
    return padded.view(4 * width, columns)
