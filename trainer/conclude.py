"""The end of a run: the best checkpoint measured on whole held-out splits, with a sample, and its card written anew."""

from typing import Any

from core.checkpoint import Checkpoint
from core.decoder import Decoder
from core.requests import SamplingParams
from core.sampling import generate_plain
from core.tokenizer import Tokenizer

from .prepare import Data
from .validate import Validation, validate

METHOD = (
    "Measured on so many tokens as were read, in lanes of a thousand or more, each from a fresh state; "
    "`python -m trainer eval` reads texts whole."
)
_PROMPT = "Once upon a time"
_SAMPLING = SamplingParams(
    temperature=0.8,
    top_k=0,
    top_p=0.95,
    min_p=0.0,
    repetition_penalty=1.0,
    stop=(),
    max_tokens=200,
    seed=7,
)


def measure(model: Any, data: Data, *, most: int, bfloat16: bool) -> dict[str, Validation]:
    """Read the validation and the test split to their ends, or `most` tokens of both together."""
    parts = [part for part in ("valid", "test") if part in data.ids]
    return {part: validate(model, data, part, most=most // len(parts), bfloat16=bfloat16) for part in parts}


def sample(checkpoint: Checkpoint) -> str | None:
    """What the checkpoint writes after a classic beginning; None if no decoder runs its architecture."""
    if not hasattr(checkpoint.model, "recurrent_weights"):
        return None
    return _PROMPT + _continuation(checkpoint.model.cpu(), checkpoint.tokenizer)


def _continuation(model: Any, tokenizer: Tokenizer) -> str:
    decoder = Decoder(model.recurrent_weights(), unwritable_ids=tokenizer.unwritable_ids)
    ids: list[int] = []
    for id in generate_plain(decoder, [tokenizer.document_id, *tokenizer.encode(_PROMPT)], _SAMPLING):
        if id == tokenizer.document_id:
            break
        ids.append(id)
    return tokenizer.decode(ids)
