"""A token and its alternatives as `TokenLogprob` tells of them: as text in its place, and as bytes."""

import math
from collections.abc import Iterable

from .requests import Candidate, TokenLogprob
from .tokenizer import IncrementalDecoder


def describe(
    decoder: IncrementalDecoder, id: int, logprob: float, top: Iterable[tuple[int, float]], *, skips_space: bool = False
) -> TokenLogprob:
    """Describe token `id`, which comes next, with its log probability and those of the likeliest tokens.

    `decoder` has been given what stands before it. With `skips_space` the space that every token here begins with
    belongs to the prompt.
    """
    cut = 1 if skips_space else 0
    bytes_of = decoder.tokenizer.piece_bytes
    candidates = (
        Candidate(text=decoder.peek(other, is_last=True)[cut:], bytes=bytes_of(other)[cut:], logprob=value)
        for other, value in top
        if value > -math.inf  # restricted to some tokens, the others cannot come
    )
    return TokenLogprob(
        text=decoder.peek(id)[cut:], bytes=bytes_of(id)[cut:], id=id, logprob=logprob, top=tuple(candidates)
    )
