"""A decoder-only transformer with a memory: what an LSTM of the same size is compared with.

Pre-norm blocks, GELU, tied weights. Positions are linear biases on the attention ("Train Short, Test Long", Press,
Smith, Lewis 2022). The inputs of each layer at the last `memory` steps are kept as the state and attended to, without
gradient ("Transformer-XL", Dai et al. 2019), so a window goes on where the one before it ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CheckpointError
from .protocol import Hidden, State


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """Sizes, the steps of memory, and one dropout probability. `hidden_size` is that of the feed-forward layers."""

    vocab_size: int
    document_id: int
    embedding_size: int = 320
    hidden_size: int = 1280
    layers: int = 6
    heads: int = 8
    memory: int = 128
    dropout: float = 0.1


class Transformer(nn.Module):
    """The network; its state is, for each step remembered, its book's number (M, B) and each layer's input (M, B, E).

    Books are numbered from the last reset back, so that no stream attends across a `document_id`; a step that never
    was has number -1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.embedding_size % config.heads:
            raise CheckpointError(
                f"embedding_size must be a multiple of heads, got {config.embedding_size} and {config.heads}"
            )
        self.config = config
        self.dropout_scale = 1.0  # a trainer may begin with less dropout than the config says
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.embedding_size).normal_(0, 0.05))
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.embedding_size)
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))

    @property
    def embedding_weight(self) -> Tensor:
        """The input vectors (V, E)."""
        return self.embedding

    @property
    def output_weight(self) -> Tensor:
        """The output layer's weight (V, E): the embedding's."""
        return self.embedding

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (T, B, V) for ids (T, B), and the state after them."""
        hidden, state = self.hidden(ids, state)
        return functional.linear(hidden.output, self.output_weight.to(hidden.output.dtype), self.output_bias), state

    def hidden(self, ids: Tensor, state: State) -> tuple[Hidden, State]:
        """The last layer's outputs for ids (T, B), and the state after them."""
        dropout = self.dropout_scale * self.config.dropout if self.training else 0.0
        ids = ids.to(self.embedding.device, non_blocking=True)
        books = (ids == self.config.document_id).cumsum(0) + 1  # (T, B); 1: the book that the memory is in
        all_books = torch.cat([state[0].long(), books])  # (M + T, B)
        bias = _attention_bias(all_books, len(ids), self.config.heads, self.config.memory)
        x = functional.dropout(functional.embedding(ids, self.embedding) * self.config.embedding_size**0.5, dropout)
        memories: list[Tensor] = []
        for layer, memory in zip(cast(Iterator[_Block], self.layers), state[1:], strict=True):
            seen = torch.cat([memory.to(x.dtype), x])  # (M + T, B, E)
            memories.append(seen[-self.config.memory :].detach().float())
            x = layer(x, seen, bias, dropout)
        raw = self.norm(x)
        current = books[-1:]
        remembered = torch.where(all_books == current, 1, -1)[-self.config.memory :]
        return Hidden(functional.dropout(raw, dropout), raw), (remembered.float(), *memories)

    def init_state(self, batch_size: int) -> State:
        """The state that remembers nothing."""
        steps, device = self.config.memory, self.embedding.device
        layers = (torch.zeros(steps, batch_size, self.config.embedding_size, device=device) for _ in self.layers)
        return (torch.full((steps, batch_size), -1.0, device=device), *layers)


class _Block(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.heads = config.heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.attended = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, config.hidden_size), nn.Linear(config.hidden_size, width)
        for last in (self.attended, self.narrow):  # a deep sum of blocks begins near the identity
            nn.init.normal_(last.weight, 0, 0.02 / (2 * config.layers) ** 0.5)

    def forward(self, x: Tensor, seen: Tensor, bias: Tensor, dropout: float) -> Tensor:
        query = self._split(self.query(self.attention_norm(x)))  # (B, heads, T, E / heads)
        key, value = (self._split(part) for part in self.key_value(self.attention_norm(seen)).chunk(2, dim=2))
        mixed = functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout_p=dropout)
        x = x + functional.dropout(self.attended(mixed.permute(2, 0, 1, 3).flatten(2)), dropout)
        return x + functional.dropout(self.narrow(functional.gelu(self.widen(self.feed_norm(x)))), dropout)

    def _split(self, x: Tensor) -> Tensor:
        steps, lanes, width = x.shape
        return x.view(steps, lanes, self.heads, width // self.heads).permute(1, 2, 0, 3)  # (B, heads, T, E / heads)


def _attention_bias(books: Tensor, steps: int, heads: int, memory: int) -> Tensor:
    """What is added to attention logits, (B, heads, T, M + T): less for what is far, minus infinity where forbidden."""
    places = torch.arange(len(books), device=books.device)
    distance = places[-steps:].unsqueeze(1) - places  # (T, M + T)
    is_near = (distance >= 0) & (distance <= memory)
    is_same_book = books[-steps:].t().unsqueeze(2) == books.t().unsqueeze(1)  # (B, T, M + T)
    allowed = (is_near & is_same_book).unsqueeze(1)  # (B, 1, T, M + T)
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=books.device) / heads)
    bias = -slopes.view(1, heads, 1, 1) * distance
    return bias.expand(len(allowed), -1, -1, -1).masked_fill(~allowed, -torch.inf)
