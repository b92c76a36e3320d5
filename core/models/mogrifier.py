"""Mogrifier LSTM: "Mogrifier LSTM" (Melis, Kocisky, Blunsom 2020).

Before each LSTM step the input and the previous hidden state gate each other in turn for a few rounds (equation 3), so
that a word means something else after different words. The rounds depend on the previous step, so the input products
of a window cannot be taken at once, and a step costs about twice an AWD-LSTM's. Regularised as awd_lstm.py is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .protocol import (
    GateWeights,
    Hidden,
    LayerWeights,
    RecurrentWeights,
    State,
    embed,
    locked_dropout,
    weight_drop,
    zero_state,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MogrifierConfig:
    """Sizes, rounds of gating, the rank of the gating matrices (0: full), and dropout probabilities."""

    vocab_size: int
    document_id: int
    embedding_size: int = 512
    hidden_size: int = 768
    layers: int = 2
    rounds: int = 4
    rank: int = 64
    tied_weights: bool = True
    embedding_dropout: float = 0.1  # whole words
    input_dropout: float = 0.5
    hidden_dropout: float = 0.3
    output_dropout: float = 0.5
    weight_dropout: float = 0.2

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each layer."""
        last = self.embedding_size if self.tied_weights else self.hidden_size
        return (self.hidden_size,) * (self.layers - 1) + (last,)


class Mogrifier(nn.Module):
    """The network; its state is (hidden, cell) of each layer in turn, (1, B, H) each."""

    def __init__(self, config: MogrifierConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout_scale = 1.0  # a trainer may begin with less dropout than the config says
        inputs = (config.embedding_size, *config.widths[:-1])
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.embedding_size).uniform_(-0.1, 0.1))
        sizes = zip(inputs, config.widths, strict=True)
        self.layers = nn.ModuleList(_Layer(e, h, config.rounds, config.rank) for e, h in sizes)
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.untied_weight: nn.Parameter | None = None
        if not config.tied_weights:
            self.untied_weight = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size).uniform_(-0.1, 0.1))

    @property
    def embedding_weight(self) -> Tensor:
        """The input vectors (V, E)."""
        return self.embedding

    @property
    def output_weight(self) -> Tensor:
        """The output layer's weight (V, H_last): the embedding's, where they are tied."""
        return self.embedding if self.untied_weight is None else self.untied_weight

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (T, B, V) for ids (T, B), and the state after them."""
        hidden, state = self.hidden(ids, state)
        return functional.linear(hidden.output, self.output_weight.to(hidden.output.dtype), self.output_bias), state

    def hidden(self, ids: Tensor, state: State) -> tuple[Hidden, State]:
        """The last layer's outputs for ids (T, B), and the state after them."""
        config, scale = self.config, self.dropout_scale
        ids = ids.to(self.embedding.device, non_blocking=True)
        resets = (ids == config.document_id).unsqueeze(2)  # (T, B, 1)
        output = embed(ids, self.embedding, scale * config.embedding_dropout, self.training)  # (T, B, E)
        output = locked_dropout(output, scale * config.input_dropout, self.training)
        new_state: list[Tensor] = []
        raw = output
        for number, layer in enumerate(cast(Iterator[_Layer], self.layers)):
            weight_hh = weight_drop(layer.weight_hh, scale * config.weight_dropout, self.training)
            raw, hidden, cell = layer(output, state[2 * number][0], state[2 * number + 1][0], resets, weight_hh)
            new_state += hidden.unsqueeze(0), cell.unsqueeze(0)
            is_last = number == len(self.layers) - 1
            dropout = config.output_dropout if is_last else config.hidden_dropout
            output = locked_dropout(raw, scale * dropout, self.training)
        return Hidden(output, raw), tuple(new_state)

    def init_state(self, batch_size: int) -> State:
        """The zero state."""
        return zero_state(self.config.widths, batch_size, self.embedding.device)

    def recurrent_weights(self) -> RecurrentWeights:
        """The weights as a decoder wants them."""
        layers = tuple(layer.weights() for layer in cast(Iterator[_Layer], iter(self.layers)))
        return RecurrentWeights(
            embedding=self.embedding, layers=layers, output_weight=self.output_weight, output_bias=self.output_bias
        )


class _Layer(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, rounds: int, rank: int) -> None:
        super().__init__()
        bound = hidden_size**-0.5
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size).uniform_(-3 * bound, 3 * bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        sizes = [(input_size, hidden_size) if round % 2 == 0 else (hidden_size, input_size) for round in range(rounds)]
        self.gates = nn.ModuleList(_Gate(wide, narrow, rank) for wide, narrow in sizes)

    def forward(
        self, inputs: Tensor, hidden: Tensor, cell: Tensor, resets: Tensor, weight_hh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        outputs = []
        for x, reset in zip(inputs, resets, strict=True):
            hidden, cell = hidden.masked_fill(reset, 0.0), cell.masked_fill(reset, 0.0)
            x, gated = self._mogrify(x, hidden)
            preactivation = functional.linear(x, self.weight_ih, self.bias) + functional.linear(gated, weight_hh)
            i, f, g, o = preactivation.float().chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs), hidden, cell

    def weights(self) -> LayerWeights:
        gates = tuple(gate.weights() for gate in cast(Iterator[_Gate], iter(self.gates)))
        return LayerWeights(weight_ih=self.weight_ih, weight_hh=self.weight_hh, bias=self.bias, gates=gates)

    def _mogrify(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        for round, gate in enumerate(self.gates):
            if round % 2 == 0:
                x = gate(hidden) * x
            else:
                hidden = gate(x) * hidden
        return x, hidden


class _Gate(nn.Module):
    """2 * sigmoid of a product, low-rank where that is smaller; starts as the identity does, at one."""

    def __init__(self, gated_size: int, gating_size: int, rank: int) -> None:
        super().__init__()
        widths = [gating_size, gated_size] if rank == 0 else [gating_size, rank, gated_size]
        maps = [nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
        self.maps, self.bias = nn.Sequential(*maps), nn.Parameter(torch.zeros(gated_size))

    def forward(self, gating: Tensor) -> Tensor:
        product: Tensor = self.maps(gating)
        return 2 * (product.float() + self.bias).sigmoid()

    def weights(self) -> GateWeights:
        maps = tuple(map.weight for map in cast(Iterator[nn.Linear], iter(self.maps)))
        return GateWeights(maps=maps, bias=self.bias)
