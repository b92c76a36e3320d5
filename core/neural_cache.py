"""The text's own words come back: a neural cache over the last tokens of one stream.

Grave, Joulin, Usunier, "Improving Neural Language Models with a Continuous Cache" (2017): what followed a hidden state
like this one is likely to follow again. Names that a story has made up gain the most. Memory is per stream and only for
streams that ask; it is rebuilt from the tokens, so it is no part of an exported state.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 256  # tokens looked back on: 512 KB a stream at 512 units
FLATNESS = 12.0  # Grave's theta, in units of the present hidden state's own square
_MOST = 0.999  # or nothing would be left to write where none of the remembered tokens may come


class NeuralCache:
    """The last hidden states of a stream and the tokens that followed them."""

    def __init__(self, width: int, strength: float) -> None:
        self._strength = np.float32(min(strength, _MOST))  # Grave's lambda
        self._hidden = np.zeros((WINDOW, width), dtype=np.float32)
        self._next = np.zeros(WINDOW, dtype=np.int64)

    def record(self, position: int, hidden: NDArray[Any], next_id: int) -> None:
        """Remember that `next_id` followed the hidden state (H,) after the token at `position`."""
        self._hidden[position % WINDOW] = hidden
        self._next[position % WINDOW] = next_id

    def mix(self, position: int, hidden: NDArray[Any], logits: NDArray[np.float32]) -> None:
        """Give the remembered tokens their share, before the token after `position` is drawn. logits (V,) in place."""
        count = min(position, WINDOW)
        if count == 0:
            return
        with np.errstate(divide="ignore", invalid="ignore"):  # log 0 stays impossible; NaN ends the stream later
            # einsum, not a BLAS product: one thread, one order of summation
            alike = np.einsum("nh,h->n", self._hidden[:count], hidden) / np.einsum("h,h->", hidden, hidden)
            weights = np.exp(FLATNESS * (alike - alike.max()))
            probabilities = np.exp(logits - logits.max())
            probabilities *= (1 - self._strength) / probabilities.sum()
            remembered = self._next[:count]
            np.add.at(probabilities, remembered, self._strength * weights / weights.sum())
            probabilities[remembered[np.isneginf(logits[remembered])]] = 0  # read, never to be written
            np.log(probabilities, out=logits)
