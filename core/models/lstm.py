"""The textbook LSTM language model: embedding, `nn.LSTM` with dropout, a fully connected layer, uniform weights.

The baseline that every recipe is measured against; nothing is tied and only the feed-forward connections are dropped
(Zaremba et al. 2014).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .protocol import Hidden, LayerWeights, RecurrentWeights, State, zero_state
from .recurrence import reset_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class LSTMConfig:
    """Sizes, dropout probability and the bound of the uniform initialisation."""

    vocab_size: int
    document_id: int
    embedding_size: int = 1024
    hidden_size: int = 1024
    layers: int = 2
    dropout: float = 0.65
    init_range: float = 0.1

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each layer."""
        return (self.hidden_size,) * self.layers


class LSTM(nn.Module):
    """The network; its state is (hidden, cell) of each layer in turn, (1, B, H) each."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_size, config.layers, dropout=between)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, config.vocab_size)
        for weight in (self.embedding.weight, self.output.weight):
            nn.init.uniform_(weight, -config.init_range, config.init_range)
        nn.init.zeros_(self.output.bias)

    @property
    def embedding_weight(self) -> Tensor:
        """The input vectors (V, E)."""
        return self.embedding.weight

    @property
    def output_weight(self) -> Tensor:
        """The output layer's weight (V, H)."""
        return self.output.weight

    @property
    def output_bias(self) -> Tensor:
        """The output layer's bias (V,)."""
        return self.output.bias

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (T, B, V) for ids (T, B), and the state after them."""
        hidden, state = self.hidden(ids, state)
        return functional.linear(hidden.output, self.output_weight.to(hidden.output.dtype), self.output_bias), state

    def hidden(self, ids: Tensor, state: State) -> tuple[Hidden, State]:
        """The last layer's outputs for ids (T, B), and the state after them."""
        hidden, cell = torch.cat(state[::2]), torch.cat(state[1::2])  # (L, B, H)
        resets = ids == self.config.document_id
        ids = ids.to(hidden.device, non_blocking=True)
        embedded = self.dropout(self.embedding(ids))  # (T, B, E)
        outputs: list[Tensor] = []
        for start, end in pairwise(sorted({0, *reset_steps(resets), len(ids)})):  # nn.LSTM cannot reset in between
            keep = ~resets[start].to(hidden.device, non_blocking=True).view(1, -1, 1)
            output, (hidden, cell) = self.lstm(embedded[start:end], (hidden * keep, cell * keep))
            outputs.append(output)
        raw = torch.cat(outputs)
        new_state = tuple(
            x
            for h, c in zip(hidden.chunk(len(hidden)), cell.chunk(len(cell)), strict=True)
            for x in (h.float(), c.float())
        )
        return Hidden(self.dropout(raw), raw), new_state

    def init_state(self, batch_size: int) -> State:
        """The zero state."""
        return zero_state(self.config.widths, batch_size, self.embedding.weight.device)

    def recurrent_weights(self) -> RecurrentWeights:
        """The weights as a decoder wants them."""
        names = [f"l{number}" for number in range(self.config.layers)]
        get = self.lstm.get_parameter
        layers = tuple(
            LayerWeights(
                weight_ih=get(f"weight_ih_{name}"),
                weight_hh=get(f"weight_hh_{name}"),
                bias=get(f"bias_ih_{name}") + get(f"bias_hh_{name}"),
            )
            for name in names
        )
        return RecurrentWeights(
            embedding=self.embedding.weight,
            layers=layers,
            output_weight=self.output_weight,
            output_bias=self.output_bias,
        )
