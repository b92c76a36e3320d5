"""The network as it is run: any LSTM-family checkpoint with its weights folded, packed and quantised once at load.

The embedding and the first layer's input matrix fold into one gate table, a row per token (exact in every precision).
int8 has one scale per output channel for weights and one per *row* for activations; integer products are exact, so a
row's logits do not depend on its neighbours. float32 and bfloat16 products run in tiles of always the same shape,
because a GEMM library may choose another order of summation for another number of rows.

Element-wise kernels treat the last few elements of a run differently from the rest; every width is padded so that no
row ever holds such a rest, however many rows and threads there are. `docs/decoder.md` has the measurements behind
these choices.

The decoder holds the state of many slots and moves rows between them and its batch; it knows nothing of tokens' text,
sampling or scheduling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .models import RecurrentWeights, State
from .sampling import BLOCK

Precision = Literal["int8", "bfloat16", "float32"]

_VECTOR = 32  # floats that one turn of torch's element-wise loops takes on AVX-512; fewer elsewhere
_TILE = 16  # rows of a float product
_ROWS_AT_ONCE = 512  # rows of weights quantised at once, to spare memory at start
_SMALLEST_SCALE = 1e-12  # an all-zero row needs a scale too


class Decoder:
    """Runs steps for rows of a batch. Not thread-safe: one thread owns it, fastest under `torch.inference_mode`."""

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
        self.padded_vocab_size = _round_up(self.vocab_size, BLOCK * threads)
        self.widths = tuple(layer.weight_hh.shape[1] for layer in weights.layers)
        with torch.no_grad():
            padded = tuple(_round_up(width, _VECTOR * threads) for width in self.widths)
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
                layers.append(_Layer(_build_linear(matrix, precision, max_rows), addend, max_rows))
            self._layers = layers[::-1]
            self._logits = torch.zeros(max_rows, self.padded_vocab_size)
            # flat, hidden and cell of each layer in turn, the stream axis at dim 1
            self._state: State = tuple(torch.zeros(1, slots, width) for width in padded for _ in range(2))
        self._index = torch.zeros(max_rows, dtype=torch.long)
        self._indices: dict[int, tuple[NDArray[np.int64], Tensor]] = {}
        self._resident: list[int] = []  # whose state stands in the batch rows; newer there than in `_state`

    @property
    def state_size(self) -> int:
        """Floats in one stream's state."""
        return 2 * sum(self.widths)

    def reset(self, slot: int) -> None:
        """Put the zero state into a slot."""
        for row in self._rows_of(slot):
            row.zero_()

    def read_state(self, slot: int) -> NDArray[np.float32]:
        """A copy of one slot's state, (state_size,): half of the hidden state and twice the cell of each layer."""
        rows = zip(self._rows_of(slot), self._both_widths(), strict=True)
        return torch.cat([row[:width] for row, width in rows]).numpy()

    def write_state(self, slot: int, values: NDArray[np.float32]) -> None:
        """Put a state that `read_state` gave into a slot."""
        parts = np.split(values, np.cumsum(self._both_widths())[:-1])
        for row, part in zip(self._rows_of(slot), parts, strict=True):
            row[: len(part)] = torch.from_numpy(part)

    @property
    def hidden(self) -> NDArray[np.float32]:
        """Half of the last layer's hidden state for each row of the last call, (B, H), valid until the next."""
        return self._layers[-1].rows(len(self._resident)).hidden[:, : self.widths[-1]].numpy()

    def advance(self, ids: Sequence[int], slots: Sequence[int]) -> None:
        """Feed one token to each of some slots, without asking for logits: how prompts are read."""
        self._admit(slots)
        self._recur(ids)

    def step(self, ids: Sequence[int], slots: Sequence[int]) -> Tensor:
        """Feed one token to each of some slots. Returns logits (B, padded V), valid until the next call."""
        self._admit(slots)
        hidden = self._recur(ids)
        return self._output(hidden, self._output_bias, self._logits[: len(ids)])

    def _recur(self, ids: Sequence[int]) -> Tensor:
        """Take one step of every layer. Returns the last one's hidden state (B, H)."""
        if len(ids) not in self._indices:
            self._indices[len(ids)] = self._index.numpy()[: len(ids)], self._index[: len(ids)]
        array, index = self._indices[len(ids)]
        array[:] = ids
        below: Tensor | None = None
        for layer in self._layers:
            rows = layer.rows(len(ids))
            if below is not None:
                rows.inputs.copy_(below)
            layer.step(rows, index)
            below = rows.hidden
        assert below is not None
        return below

    def _admit(self, slots: Sequence[int]) -> None:
        """Bring the state of these slots into the batch rows; nothing moves while the slots stay the same."""
        assert len(slots) <= self.max_rows, (len(slots), self.max_rows)
        if self._resident == slots:
            return
        self._evict()
        self._resident = list(slots)
        index = torch.tensor(self._resident)
        for rows, tensor in zip(self._row_state(), self._state, strict=True):
            rows.copy_(tensor[0].index_select(0, index))

    def _evict(self) -> None:
        if self._resident:
            index = torch.tensor(self._resident)
            for rows, tensor in zip(self._row_state(), self._state, strict=True):
                tensor[0].index_copy_(0, index, rows)
            self._resident = []

    def _row_state(self) -> list[Tensor]:
        layers = [layer.rows(len(self._resident)) for layer in self._layers]
        return [part for rows in layers for part in (rows.hidden, rows.cell)]

    def _rows_of(self, slot: int) -> list[Tensor]:
        """Where a slot's state stands now: in the batch if it is there, else in the store."""
        if slot in self._resident:
            row = self._resident.index(slot)
            return [part[row] for part in self._row_state()]
        return [tensor[0, slot] for tensor in self._state]

    def _both_widths(self) -> list[int]:
        return [width for width in self.widths for _ in range(2)]


class _Linear(Protocol):
    inputs: int

    def __call__(self, inputs: Tensor, addend: Tensor, out: Tensor) -> Tensor:
        """out = inputs @ weight.T + addend; inputs (B, K) may be strided, addend (N,) or (B, N), out (B, N)."""
        ...


class _Layer:
    """One LSTM layer and its part of the batch.

    It keeps half of the hidden state and twice the cell: with tanh(x) = 2 sigmoid(2x) - 1 and the factors moved into
    the weights, a step is one sigmoid for all gates, one for the cell and five products and sums, all in place.
    """

    def __init__(self, product: _Linear, addend: Tensor, rows: int) -> None:
        width = addend.shape[-1] // 4
        self._product = product
        self._addend = addend  # (4H,) bias, or (V, 4H) gate table
        self._joint = torch.zeros(rows, product.inputs)  # (R, E + H), or (R, H) where the inputs are in the gate table
        self._cell = torch.zeros(rows, width)
        self._gates = torch.zeros(rows, 4 * width)
        self._squashed = torch.zeros(rows, width)
        self._views: dict[int, _Rows] = {}

    def rows(self, count: int) -> "_Rows":
        """The first rows of every buffer; kept, because slicing ten tensors takes longer than a small step."""
        if count not in self._views:
            joint, cell, width = self._joint[:count], self._cell[:count], self._cell.shape[1]
            self._views[count] = _Rows(
                joint=joint,
                inputs=joint[:, :-width],
                hidden=joint[:, -width:],
                cell=cell,
                gates=self._gates[:count],
                each_gate=self._gates[:count].chunk(4, 1),
                squashed=self._squashed[:count],
            )
        return self._views[count]

    def step(self, rows: "_Rows", ids: Tensor) -> None:
        """Take one step of the LSTM."""
        addend = self._addend if self._addend.dim() == 1 else self._addend.index_select(0, ids)
        self._product(rows.joint, addend, rows.gates).sigmoid_()
        i, f, g, o = rows.each_gate  # (B, H) each
        rows.cell.mul_(f).addcmul_(i, g, value=4).sub_(i, alpha=2)
        torch.sigmoid(rows.cell, out=rows.squashed)
        torch.mul(o, rows.squashed, out=rows.hidden).sub_(o, alpha=0.5)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Views of a layer's buffers, (B, ...) each."""

    joint: Tensor
    inputs: Tensor
    hidden: Tensor
    cell: Tensor
    gates: Tensor
    each_gate: tuple[Tensor, ...]
    squashed: Tensor


class _Int8Linear:
    """int8 weights with a scale per output channel, int8 activations with a scale per row.

    One row streams the weights through `_int_mm`, many go through oneDNN's packed kernel: both are exact in int32, so
    they agree bit for bit. oneDNN's fast path wants unsigned activations, hence the offset of 128 there.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        outputs, self.inputs = weight.shape
        self._scales = torch.linalg.vector_norm(weight, torch.inf, 1).clamp_(min=_SMALLEST_SCALE).div_(127)  # (N,)
        quantised = torch.empty_like(weight, dtype=torch.int8)
        for row in range(0, outputs, _ROWS_AT_ONCE):
            rows_now = slice(row, row + _ROWS_AT_ONCE)
            quantised[rows_now] = (weight[rows_now] / self._scales[rows_now].unsqueeze(1)).round_()
        self._scales.mul_(2)  # see _build_linear
        self._transposed = quantised.t()  # (K, N), a view: `_int_mm` is fastest on this layout
        self._packed = torch.ops.onednn.qlinear_prepack(quantised, None)
        self._zero_points = torch.zeros(outputs, dtype=torch.int32)
        self._float = torch.empty(rows, self.inputs)
        self._signed = torch.empty(1, self.inputs, dtype=torch.int8)
        self._unsigned = torch.empty(rows, self.inputs, dtype=torch.uint8)
        self._views: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, inputs: Tensor, addend: Tensor, out: Tensor) -> Tensor:
        rows = inputs.shape[0]
        if rows not in self._views:
            self._views[rows] = self._float[:rows], self._unsigned[:rows]
        scaled, unsigned = self._views[rows]
        scale = torch.abs(inputs, out=scaled).amax(1, keepdim=True).clamp_(min=_SMALLEST_SCALE).div_(127)  # (B, 1)
        torch.div(inputs, scale, out=scaled).round_()
        if rows == 1:
            sums = torch._int_mm(self._signed.copy_(scaled), self._transposed) * self._scales
        else:
            sums = torch.ops.onednn.qlinear_pointwise(
                unsigned.copy_(scaled.add_(128)), 1.0, 128, self._packed, self._scales, self._zero_points, None,
                1.0, 0, torch.float32, "none", [], "",
            )  # fmt: skip
        return torch.addcmul(addend, sums, scale, out=out)


class _TiledLinear:
    """A float product in tiles of `_TILE` rows, the last one filled up: the same shape, the same sums, every time."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, rows: int) -> None:
        outputs, self.inputs = weight.shape
        self._weight = torch.ops.mkldnn._reorder_linear_weight((2 * weight).to(dtype), _TILE)
        self._inputs = torch.zeros(_round_up(rows, _TILE), self.inputs, dtype=dtype)
        self._sums = torch.zeros(_round_up(rows, _TILE), outputs)

    def __call__(self, inputs: Tensor, addend: Tensor, out: Tensor) -> Tensor:
        rows = len(inputs)
        self._inputs[:rows].copy_(inputs)
        for start in range(0, rows, _TILE):
            tile = slice(start, start + _TILE)
            product = torch.ops.mkldnn._linear_pointwise(self._inputs[tile], self._weight, None, "none", [], "")
            self._sums[tile].copy_(product)
        return torch.add(self._sums[:rows], addend, out=out)


def _build_linear(weight: Tensor, precision: Precision, rows: int) -> _Linear:
    """Pack a weight (N, K). What it is multiplied with are halved hidden states, so the product is doubled."""
    if precision == "int8":
        return _Int8Linear(weight, rows)
    return _TiledLinear(weight, torch.bfloat16 if precision == "bfloat16" else torch.float32, rows)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


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
