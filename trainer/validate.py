"""The loss on a held-out split, quickly: many lanes side by side, each from a fresh state."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from . import distributed
from .loss import cross_entropy
from .prepare import Data
from .tokens import bounded_exp

_LANES = 64  # at most
_LEAST_A_LANE = 1000  # tokens
_WINDOW = 64  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Mean loss a token (nats) over the tokens that were read, and what it comes to over the whole raw text."""

    tokens: int
    loss: float
    bits_per_byte: float
    word_perplexity: float | None  # None for a text without words
    token_perplexity: float


def validate(
    model: Any,
    data: Data,
    part: str,
    *,
    most: int | None = 100_000,
    bfloat16: bool = True,
) -> Validation:
    """Cut the split into lanes, each from the zero state and `document_id`; processes share the lanes.

    There are fewer where little is read: the first words after a fresh state are hard to predict.

    Of a long split only the beginning of each lane is read, `most` tokens in all; the figures are scaled to the whole.
    """
    ids, counts, document_id = data.ids[part], data.counts[part], data.tokenizer.document_id
    read = len(ids) if most is None else min(most, len(ids))
    lanes = max(1, min(_LANES, read // _LEAST_A_LANE))
    length = -(-(len(ids) - 1) // lanes)
    starts = [lane * length for lane in range(lanes) if lane * length < len(ids) - 1]
    mine = starts[distributed.rank() :: distributed.world_size()]
    device = model.output_bias.device
    total = torch.zeros(2, dtype=torch.float64, device=device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        state = model.init_state(len(mine))
        each = min(length, -(-read // lanes))
        for offset in range(0, each if mine else 0, _WINDOW):
            steps = min(_WINDOW, each - offset)
            inputs = np.full((steps, len(mine)), document_id, np.int64)
            targets = np.full((steps, len(mine)), -1, np.int64)
            for lane, start in enumerate(mine):
                position = start + offset
                count = min(steps, max(0, min(start + length, len(ids) - 1) - position))
                inputs[:count, lane] = ids[position : position + count]
                targets[:count, lane] = ids[position + 1 : position + count + 1]
            if offset == 0:
                inputs[0] = document_id
            hidden, state = model.hidden(torch.from_numpy(inputs), state)
            flat = torch.from_numpy(targets).to(device).flatten()
            kept = flat >= 0
            output = hidden.output.flatten(0, 1)[kept]
            total[0] += cross_entropy(output, model.output_weight, model.output_bias, flat[kept]).double()
            total[1] += kept.sum()
    model.train(was_training)
    nats, tokens = distributed.sum_over_ranks(total).tolist()
    loss = nats / tokens
    return Validation(
        tokens=int(tokens),
        loss=loss,
        bits_per_byte=loss * counts.tokens / math.log(2) / counts.bytes,
        word_perplexity=bounded_exp(loss * counts.tokens / counts.words) if counts.words else None,
        token_perplexity=bounded_exp(loss),
    )
