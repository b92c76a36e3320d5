"""The end of a run: the best checkpoint measured on whole held-out splits, with a sample, and its card written anew."""

from collections.abc import Callable
from typing import Any

from core.checkpoint import Checkpoint
from core.decoder import Decoder
from core.requests import SamplingParams
from core.sampling import generate_plain
from core.tokenizer import Tokenizer

from .prepare import Data
from .validate import Validation, validate

METHOD = (
    "Measured in up to 64 lanes, each from a fresh state, of a long text the beginning of each lane; "
    "`python -m trainer eval` reads texts whole."
)
_LEAST = 200_000  # tokens of a part that are read in any case
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


def measure(
    model: Any, data: Data, *, trained_tokens: int, seconds_left: Callable[[], float], bfloat16: bool
) -> dict[str, Validation]:
    """Read the validation and the test split to their ends, or as much as takes a few per cent of the run's time."""
    parts = [part for part in ("valid", "test") if part in data.ids]
    most = max(_LEAST, trained_tokens // 20)  # a token read costs a third of one trained on
    results: dict[str, Validation] = {}
    for number, part in enumerate(parts):
        left = seconds_left()
        end = left - left / (len(parts) - number)  # no number where the time is not limited, and so never reached

        def is_late(end: float = end) -> bool:
            return seconds_left() < end

        results[part] = validate(model, data, part, most=most, is_late=is_late, bfloat16=bfloat16)
    return results


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
