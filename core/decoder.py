"""The network as it is run: any LSTM checkpoint with its weights folded, packed and quantised once at load.

The embedding and the first layer's input matrix fold into one gate table, a row per token (exact in every precision),
except in a Mogrifier, whose inputs depend on its state. What remains to be multiplied are hidden states, which lie
between -1 and 1: int8 has one scale per output channel for the weights and one fixed scale for all activations. Integer
products are exact, so a row's logits do not depend on its neighbours. float32 and bfloat16 products run in tiles of
always the same shape, because a GEMM library may choose another order of summation for another number of rows.

Element-wise kernels treat the last few elements of a run differently from the rest; every width is padded so that no
row ever holds such a rest, however many rows and threads there are. `docs/decoder.md` has the measurements behind
these choices.

The decoder holds the state of many slots and moves rows between them and its batch; it knows nothing of tokens' text,
sampling or scheduling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .models import GateWeights, LayerWeights, RecurrentWeights
from .products import FULL, Precision, ScaledLinear, build_linear, pad
from .sampling import BLOCK, round_up

_VECTOR = 32  # floats that one turn of torch's element-wise loops takes on AVX-512; fewer elsewhere
_MINUS_FULL = torch.tensor(-float(FULL))  # a tensor, because making one of a number takes longer than a small product


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
            output_weight = pad(weights.output_weight.detach().float(), self.padded_vocab_size, padded[-1])
            self._output = build_linear(output_weight, precision, max_rows)
            layers: list[_Layer | _MogrifierLayer] = []
            for number in reversed(range(len(padded))):  # the first and largest last, when the others' copies are gone
                layer, embedding = weights.layers[number], weights.embedding if number == 0 else None
                inputs = padded[number - 1] if number else round_up(weights.embedding.shape[1], _VECTOR * threads)
                build = _MogrifierLayer if layer.gates else _Layer
                layers.append(build(layer, embedding, inputs, padded[number], precision, max_rows))
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
    squashed: Tensor
    gates: Tensor | None = None  # a buffer for rows of the gate table


class _Layer:
    """One LSTM layer."""

    def __init__(
        self, weights: LayerWeights, embedding: Tensor | None, inputs: int, width: int, precision: Precision, rows: int
    ) -> None:
        weight_ih = _prepare(weights.weight_ih, width, inputs)
        matrix = _prepare(weights.weight_hh, width, width)
        self._addend = _prepare(weights.bias.unsqueeze(1), width, 1).squeeze(1)  # (4H,) bias, or (V, 4H) gate table
        if embedding is None:
            matrix = torch.cat((weight_ih, matrix), 1)
        else:
            weight_ih = weight_ih[:, : embedding.shape[1]]
            self._addend = torch.addmm(self._addend, embedding.detach().float(), weight_ih.t())
        self._product = build_linear(matrix, precision, rows)
        self._gates = torch.zeros(rows, 4 * width)
        self._squashed = torch.zeros(rows, width)

    def rows(self, *, inputs: Tensor, hidden: Tensor, cell: Tensor) -> _LayerViews:
        """These views, with those of the layer's own buffers."""
        gates, squashed = self._gates[: len(cell)], self._squashed[: len(cell)]
        return _LayerViews(inputs=inputs, hidden=hidden, cell=cell, squashed=squashed, gates=gates)

    def step(self, rows: _LayerViews, ids: Tensor) -> None:
        """Take one step of the LSTM."""
        is_table = self._addend.dim() == 2
        addend = torch.index_select(self._addend, 0, ids, out=rows.gates) if is_table else self._addend
        _update(rows, self._product(rows.inputs, addend))


class _MogrifierLayer:
    """One layer of a Mogrifier LSTM: input and hidden state gate each other before the step, see models/mogrifier.py.

    Inputs are kept times 127 as hidden states are, but nothing bounds them.
    """

    def __init__(
        self, weights: LayerWeights, embedding: Tensor | None, inputs: int, width: int, precision: Precision, rows: int
    ) -> None:
        self._embedding = None  # (V, E)
        if embedding is not None:
            self._embedding = pad(embedding.detach().float(), len(embedding), inputs) * FULL
        self._gates = [
            _Gate(gate, (inputs, width) if number % 2 == 0 else (width, inputs), precision, rows)
            for number, gate in enumerate(weights.gates)
        ]
        self._input_product = ScaledLinear(_prepare(weights.weight_ih, width, inputs), precision, rows)
        self._hidden_product = ScaledLinear(_prepare(weights.weight_hh, width, width), precision, rows)
        self._bias = _prepare(weights.bias.unsqueeze(1), width, 1).squeeze(1)  # (4H,)
        self._squashed = torch.zeros(rows, width)

    def rows(self, *, inputs: Tensor, hidden: Tensor, cell: Tensor) -> _LayerViews:
        """These views, with those of the layer's own buffers."""
        below = inputs[:, : inputs.shape[1] - hidden.shape[1]]
        return _LayerViews(inputs=below, hidden=hidden, cell=cell, squashed=self._squashed[: len(cell)])

    def step(self, rows: _LayerViews, ids: Tensor) -> None:
        """Take one step of the Mogrifier."""
        inputs = rows.inputs if self._embedding is None else self._embedding.index_select(0, ids)
        hidden = rows.hidden
        for number, gate in enumerate(self._gates):
            if number % 2 == 0:
                inputs = gate(hidden) * inputs
            else:
                hidden = gate(inputs) * hidden
        _update(rows, self._hidden_product(hidden, self._input_product(inputs, self._bias)))


class _Gate:
    """2 sigmoid(product + bias), the product of one matrix or two."""

    def __init__(self, weights: GateWeights, sizes: tuple[int, int], precision: Precision, rows: int) -> None:
        gated, gating = sizes  # padded
        ranks = [round_up(weight.shape[0], _VECTOR) for weight in weights.maps[:-1]]
        padded = [
            pad(weight.detach().float(), outputs, inputs)
            for weight, (inputs, outputs) in zip(weights.maps, pairwise((gating, *ranks, gated)), strict=True)
        ]
        *first, last = [ScaledLinear(weight, precision, rows) for weight in padded]
        self._first, self._last = first, last
        self._nothing = [torch.zeros(rank) for rank in ranks]
        self._bias = pad(weights.bias.detach().float().unsqueeze(0), 1, gated)[0]

    def __call__(self, gating: Tensor) -> Tensor:
        for product, nothing in zip(self._first, self._nothing, strict=True):
            gating = product(gating, nothing).mul_(FULL)
        return self._last(gating, self._bias).sigmoid_().mul_(2)


def _update(rows: _LayerViews, gates: Tensor) -> None:
    """Take one step of an LSTM's cell and hidden state. gates (B, 4H) before their sigmoid, lost.

    A layer keeps 127 times the hidden state, ready to be rounded to int8, and twice the cell: with
    tanh(x) = 2 sigmoid(2x) - 1 and the factors moved into the weights, a step is one sigmoid for all gates, one for the
    cell and five products and sums, all in place.
    """
    i, f, g, o = gates.sigmoid_().chunk(4, 1)  # (B, H) each
    rows.cell.mul_(f).addcmul_(i, g, value=4).sub_(i, alpha=2)
    torch.sigmoid(rows.cell, out=rows.squashed)
    torch.mul(o, _MINUS_FULL, out=rows.hidden).addcmul_(o, rows.squashed, value=2 * FULL)


def _prepare(gates: Tensor, width: int, columns: int) -> Tensor:
    """Pad one weight of a layer, (4H, K), to `width` units, whose state stays zero, and double its g gate.

    With the g gate doubled, tanh is a sigmoid too: torch's is several times faster on CPU, and one call does all gates.
    """
    gates = gates.detach().view(4, -1, gates.shape[1])
    padded = torch.zeros(4, width, columns)
    padded[:, : gates.shape[1], : gates.shape[2]] = gates
    padded[2] *= 2
    return padded.view(4 * width, columns)
