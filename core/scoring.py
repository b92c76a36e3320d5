"""How probable a given text is, token by token: the network reads it in float32, without an engine.

What an engine draws from may differ in the third digit, because it runs the same weights in int8.
"""

from itertools import pairwise

import torch

from .checkpoint import Checkpoint
from .logprobs import describe
from .requests import TokenLogprob
from .tokenizer import IncrementalDecoder

_WINDOW = 256  # tokens whose logits are held at once


@torch.inference_mode()
def score(checkpoint: Checkpoint, text: str, *, top: int) -> list[TokenLogprob]:
    """Return every token of `text` from the beginning of a story, with `top` of the likeliest alternatives each."""
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    ids = [tokenizer.document_id, *tokenizer.encode(text)]
    decoder = IncrementalDecoder(tokenizer)
    state = model.init_state(1)
    scored: list[TokenLogprob] = []
    cuts = [*range(0, len(ids) - 1, _WINDOW), len(ids) - 1]
    for start, end in pairwise(cuts):
        logits, state = model(torch.tensor(ids[start:end]).unsqueeze(1), state)  # (T, 1, V)
        logprobs = logits[:, 0].float().log_softmax(-1)  # (T, V)
        likeliest = logprobs.topk(top)
        for row, id in enumerate(ids[start + 1 : end + 1]):
            pairs = zip(likeliest.indices[row].tolist(), likeliest.values[row].tolist(), strict=True)
            scored.append(describe(decoder, id, float(logprobs[row, id]), pairs))
            decoder.push(id)
    return scored
