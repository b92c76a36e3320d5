"""What every language model offers, whatever paper it follows.

The recurrent state is a flat tuple of tensors with the stream axis at dim 1, so that one gather moves any model's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

State = tuple[Tensor, ...]


class Hidden(NamedTuple):
    """What stands before the output layer: `output` with dropout, `raw` without. Both (T, B, H)."""

    output: Tensor
    raw: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GateWeights:
    """One round of a Mogrifier: what is gated is multiplied by 2 sigmoid(maps(what gates) + bias)."""

    maps: tuple[Tensor, ...]  # one after the other, each (outputs, inputs)
    bias: Tensor  # (size of what is gated,)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """One LSTM layer, gate order i, f, g, o as in torch.nn.LSTM, both biases summed."""

    weight_ih: Tensor  # (4H, E)
    weight_hh: Tensor  # (4H, H)
    bias: Tensor  # (4H,)
    gates: tuple[GateWeights, ...] = ()  # of input and hidden state in turn, the input first


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentWeights:
    """Everything an LSTM needs to run, for a decoder that packs it in its own way."""

    embedding: Tensor  # (V, E)
    layers: tuple[LayerWeights, ...]
    output_weight: Tensor  # (V, H_last)
    output_bias: Tensor  # (V,)


@runtime_checkable
class LanguageModel(Protocol):
    """A network that predicts the next id of each stream. `document_id` in the input starts a stream's state afresh."""

    @property
    def config(self) -> Any: ...

    @property
    def embedding_weight(self) -> Tensor: ...

    @property
    def output_weight(self) -> Tensor: ...

    @property
    def output_bias(self) -> Tensor: ...

    def __call__(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (T, B, V) for ids (T, B), and the state after them."""
        ...

    def hidden(self, ids: Tensor, state: State) -> tuple[Hidden, State]:
        """As a call, but stopping before the output layer, which a loss can take in chunks.

        The ids may lie on the CPU whatever the model's device: then a GPU is not waited for to find where streams
        begin.
        """
        ...

    def init_state(self, batch_size: int) -> State:
        """The zero state."""
        ...

    def state_dict(self) -> dict[str, Any]: ...


def detach_state(state: State) -> State:
    """The same numbers, cut from the graph that made them."""
    return tuple(tensor.detach() for tensor in state)


def embed(ids: Tensor, embedding: Tensor, dropout: float, training: bool) -> Tensor:
    """The rows (T, B, E) of ids (T, B), whole words dropped for a whole window (Gal & Ghahramani 2016)."""
    rows = functional.embedding(ids, embedding)
    if not training or dropout == 0.0:
        return rows
    kept = embedding.new_empty(len(embedding)).bernoulli_(1 - dropout).div_(1 - dropout)  # (V,)
    return rows * kept[ids].unsqueeze(-1)


def locked_dropout(inputs: Tensor, probability: float, training: bool) -> Tensor:
    """Drop whole features of a stream for a whole window: one mask for all time steps (Gal & Ghahramani 2016)."""
    if not training or probability == 0.0:
        return inputs
    mask = torch.empty_like(inputs[:1]).bernoulli_(1 - probability).div_(1 - probability)  # (1, B, E)
    return inputs * mask


def weight_drop(weight: Tensor, probability: float, training: bool) -> Tensor:
    """Drop single weights for a whole window (Wan et al. 2013; Merity et al. 2017, section 2).

    The draws are 16 bits each, four to a random integer: `dropout` takes one for every weight, ten times as long.
    """
    if not training or probability == 0.0:
        return weight
    draws = torch.empty(-(-weight.numel() // 4), dtype=torch.int64, device=weight.device).random_(-(2**63), None)
    kept = draws.view(torch.int16)[: weight.numel()].view_as(weight) >= round(probability * 2**16) - 2**15
    return weight * (kept / (1 - probability))


def zero_state(widths: Sequence[int], batch_size: int, device: torch.device) -> State:
    """Hidden state and cell of each layer, all zero: (1, B, H) each."""
    return tuple(torch.zeros(1, batch_size, width, device=device) for width in widths for _ in range(2))
