"""What the training text tells before the first step: how frequent its pieces are, and which keep company.

From a zero output bias, a tied model under Adam first saturates its last layer to imitate the frequencies, and stays
there. From random embeddings, most of a short run goes into finding out which pieces are alike: the singular vectors of
their pointwise mutual information know that already ("Neural Word Embedding as Implicit Matrix Factorization", Levy and
Goldberg 2014).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import distributed
from .prepare import Data
from .tokens import Ids, count_ids

_REACH = 4  # places to either side that are company, the farther the less
_MOST = 8192  # pieces whose company is looked at, the most frequent: a square matrix of them is held
_BLOCK = 1 << 20  # ids counted at once


def initialise(model: Any, data: Data, kind: str) -> None:
    """Set a new model's output bias, and of kind "company" its embedding, from the training text; of "random" none."""
    if kind == "random":
        return
    read = [data.ids[name] for name in ("train", "pretrain") if name in data.ids]
    counts = sum((count_ids(ids, data.tokenizer.vocab_size) for ids in read), start=np.ones(data.tokenizer.vocab_size))
    with torch.no_grad():
        model.output_bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))
        if kind == "company":
            embedding = model.embedding_weight
            most_frequent = np.argsort(-counts, kind="stable")[:_MOST].copy()
            if len(most_frequent) < embedding.shape[1]:
                return
            vectors = company(read, most_frequent, len(counts), embedding.shape[1])
            embedding[torch.from_numpy(most_frequent)] = vectors * (embedding.std() / vectors.std())
            distributed.copy_from_first(embedding)  # processes must begin alike to the last bit


def company(read: list[Ids], pieces: NDArray[np.int64], vocab_size: int, size: int) -> Tensor:
    """Return a vector (N, `size`) for each of N `pieces`, at least `size`: alike for those found in like company."""
    number = len(pieces)
    ranks = np.full(vocab_size, number)
    ranks[pieces] = np.arange(number)
    met = torch.zeros(number * number)
    for ids in read:
        for start in range(0, len(ids), _BLOCK):
            places = torch.from_numpy(ranks[ids[start : start + _BLOCK + _REACH]])
            for distance in range(1, min(_REACH, len(places) - 1) + 1):
                left, right = places[:-distance][:_BLOCK], places[distance:][:_BLOCK]
                pairs = (left * number + right)[(left < number) & (right < number)]
                met.index_add_(0, pairs, torch.full((len(pairs),), 1 / distance))
    together = met.view(number, number)
    together = together + together.t()
    alone = together.sum(1).clamp_min_(1.0)
    together.mul_(together.sum()).div_(alone[:, None]).div_(alone).clamp_min_(1.0).log_()  # positive PMI
    left_vectors, values, _ = torch.svd_lowrank(together, q=size)
    # Turned at random, or the first numbers of every vector would be the largest; and so that it does not matter which
    # of the equally good signs and bases were found: they differ with the rounding of another number of threads.
    left, _, right = torch.linalg.svd(left_vectors.T @ torch.randn(number, size), full_matrices=False)
    vectors = torch.mm(left_vectors * values.sqrt(), left @ right)
    lengths: Tensor = vectors.norm(dim=1, keepdim=True)
    return vectors / lengths.clamp_min(lengths.mean() / 4)
