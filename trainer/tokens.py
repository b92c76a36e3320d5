"""A split of the corpus as vocabulary ids on disk, memory-mapped, so that a corpus need not fit in memory.

Layout of the ids: `document_id`, the first book, `document_id`, the second book, ..., `document_id`.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.tokenizer import Tokenizer

from .corpus import stretches

Ids = NDArray[np.uint32]

_BLOCK = 1 << 22  # ids looked at at once: whole arrays of eight bytes an id would not fit in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCounts:
    """How long the raw text is: words are split at white space, bytes are UTF-8."""

    tokens: int
    words: int
    bytes: int


def count_text(text: str) -> tuple[int, int]:
    """Words and bytes of a text."""
    return len(text.split()), len(text.encode())


def bounded_exp(value: float) -> float:
    """exp without overflow: a hopeless model's perplexity is capped, so that JSON can hold it."""
    return math.exp(min(value, 700.0))


def perplexity_text(value: float | None, digits: int = 1) -> str:
    """Return a perplexity as people read it: "–" where there is none, of a hopeless model no more than its size."""
    if value is None:
        return "–"
    return f"{value:,.{digits}f}" if value < 1e7 else f"{value:.1e}"


def write_ids(path: Path, texts: Iterable[Iterable[str]], tokenizer: Tokenizer) -> TextCounts:
    """Encode texts, each given as its stretches, into a file of ids, with their counts beside it."""
    tokens = words = size = 0
    with path.open("wb") as file:
        np.array([tokenizer.document_id], np.uint32).tofile(file)
        for text in texts:
            for stretch in text:
                ids = np.array(tokenizer.encode(stretch), np.uint32)
                ids.tofile(file)
                stretch_words, stretch_bytes = count_text(stretch)
                tokens, words, size = tokens + len(ids), words + stretch_words, size + stretch_bytes
            np.array([tokenizer.document_id], np.uint32).tofile(file)
    counts = TextCounts(tokens=tokens, words=words, bytes=size)
    path.with_suffix(".json").write_text(json.dumps(asdict(counts)) + "\n", encoding="utf-8")
    return counts


def read_ids(path: Path) -> tuple[Ids, TextCounts]:
    """Map a file of ids into memory."""
    counts = TextCounts(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    return np.memmap(path, np.uint32, mode="r"), counts


def count_ids(ids: Ids, vocab_size: int) -> NDArray[np.int64]:
    """How often each piece of the vocabulary stands in `ids`."""
    blocks = (ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK))
    return sum((np.bincount(block, minlength=vocab_size) for block in blocks), start=np.zeros(vocab_size, np.int64))


def find_id(ids: Ids, wanted: int) -> NDArray[np.int64]:
    """Every place where an id stands."""
    starts = range(0, len(ids), _BLOCK)
    return np.concatenate([np.flatnonzero(ids[start : start + _BLOCK] == wanted) + start for start in starts])


def stream_of(texts: Sequence[str], tokenizer: Tokenizer) -> NDArray[np.int64]:
    """One stream of ids: each text after a `document_id`, where a model begins afresh."""
    parts = [ids for text in texts for ids in ([tokenizer.document_id], *map(tokenizer.encode, stretches([text])))]
    return np.concatenate([np.array(ids, np.int64) for ids in parts])
