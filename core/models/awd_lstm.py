"""AWD-LSTM: "Regularizing and Optimizing LSTM Language Models" (Merity, Keskar, Socher 2017).

Stacked LSTM layers with weight drop on hidden-to-hidden (section 2), locked dropout between them (4.2), embedding
dropout (4.3) and tied input and output weights (4.4). Activation regularisation (4.6) is the loss's business; `hidden`
gives it what it needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .int8_recurrence import int8_lstm_layer
from .protocol import Hidden, LayerWeights, RecurrentWeights, State, embed, locked_dropout, weight_drop, zero_state
from .recurrence import lstm_layer

_EMBEDDING_GAIN, _HIDDEN_GAIN = 5.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AWDLSTMConfig:
    """Sizes and dropout probabilities. With tied weights the last layer is as wide as the embedding."""

    vocab_size: int
    document_id: int
    embedding_size: int = 400
    hidden_size: int = 1150
    layers: int = 3
    tied_weights: bool = True
    embedding_dropout: float = 0.1  # whole words
    input_dropout: float = 0.65
    hidden_dropout: float = 0.3
    output_dropout: float = 0.4
    weight_dropout: float = 0.5

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each layer."""
        last = self.embedding_size if self.tied_weights else self.hidden_size
        return (self.hidden_size,) * (self.layers - 1) + (last,)


class AWDLSTM(nn.Module):
    """The network; its state is (hidden, cell) of each layer in turn, (1, B, H) each."""

    def __init__(self, config: AWDLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout_scale = 1.0  # a trainer may begin with less dropout than the config says
        self.int8 = False  # ... and have it learn with matrix products in int8
        inputs = (config.embedding_size, *config.widths[:-1])
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.embedding_size).uniform_(-0.1, 0.1))
        # Embeddings are small, hidden states at most 1: without a gain the gates hear little of them for long.
        gains = (_EMBEDDING_GAIN,) + (_HIDDEN_GAIN,) * (config.layers - 1)
        sizes = zip(inputs, config.widths, gains, strict=True)
        self.layers = nn.ModuleList(_Layer(*size) for size in sizes)
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
        resets = ids == config.document_id
        ids = ids.to(self.embedding.device, non_blocking=True)
        output = embed(ids, self.embedding, scale * config.embedding_dropout, self.training)  # (T, B, E)
        output = locked_dropout(output, scale * config.input_dropout, self.training)
        new_state: list[Tensor] = []
        raw = output
        run_layer = int8_lstm_layer if self.int8 and self.training else lstm_layer
        for number, layer in enumerate(self._layers()):
            weight_hh = weight_drop(layer.weight_hh, scale * config.weight_dropout, self.training)
            hidden, cell = state[2 * number][0], state[2 * number + 1][0]
            raw, hidden, cell = run_layer(output, hidden, cell, resets, layer.weight_ih, weight_hh, layer.bias)
            new_state += hidden.float().unsqueeze(0), cell.unsqueeze(0)
            is_last = number == len(self.layers) - 1
            dropout = config.output_dropout if is_last else config.hidden_dropout
            output = locked_dropout(raw, scale * dropout, self.training)
        return Hidden(output, raw), tuple(new_state)

    def init_state(self, batch_size: int) -> State:
        """The zero state."""
        return zero_state(self.config.widths, batch_size, self.embedding.device)

    def recurrent_weights(self) -> RecurrentWeights:
        """The weights as a decoder wants them."""
        layers = tuple(LayerWeights(weight_ih=x.weight_ih, weight_hh=x.weight_hh, bias=x.bias) for x in self._layers())
        return RecurrentWeights(
            embedding=self.embedding, layers=layers, output_weight=self.output_weight, output_bias=self.output_bias
        )

    def _layers(self) -> Iterator["_Layer"]:
        return cast(Iterator[_Layer], iter(self.layers))


class _Layer(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, gain: float) -> None:
        super().__init__()
        bound = hidden_size**-0.5
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size).uniform_(-gain * bound, gain * bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        with torch.no_grad():  # a forget gate that starts open remembers from the first step (Jozefowicz et al. 2015)
            self.bias[hidden_size : 2 * hidden_size] = 1.0
