"""A split of the corpus as vocabulary ids on disk, memory-mapped, so that a corpus need not fit in memory.

Layout of the ids: `document_id`, the first book, `document_id`, the second book, ..., `document_id`.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.tokenizer import Tokenizer

Ids = NDArray[np.uint32]

_STRETCH = 1_000_000  # characters encoded at once


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


def write_ids(path: Path, texts: Iterable[str], tokenizer: Tokenizer) -> TextCounts:
    """Encode texts into a file of ids, with their counts beside it."""
    tokens = words = size = 0
    with path.open("wb") as file:
        np.array([tokenizer.document_id], np.uint32).tofile(file)
        for text in texts:
            for stretch in stretches(text):
                ids = np.array(tokenizer.encode(stretch), np.uint32)
                ids.tofile(file)
                stretch_words, stretch_bytes = count_text(stretch)
                tokens, words, size = tokens + len(ids), words + stretch_words, size + stretch_bytes
            np.array([tokenizer.document_id], np.uint32).tofile(file)
    counts = TextCounts(tokens=tokens, words=words, bytes=size)
    path.with_suffix(".json").write_text(json.dumps(asdict(counts)) + "\n", encoding="utf-8")
    return counts


def stretches(text: str, length: int = _STRETCH) -> Iterator[str]:
    """Cut a long text where no piece and no word can cross: after a paragraph break, else before a space."""
    start = 0
    while len(text) - start > length:
        at = text.find("\n\n", start + length)
        while 0 <= at < len(text) - 2 and text[at + 2] == "\n":
            at += 1
        at = at + 2 if at >= 0 else text.find(" ", start + length)
        if at < 0:
            break
        yield text[start:at]
        start = at
    yield text[start:]


def read_ids(path: Path) -> tuple[Ids, TextCounts]:
    """Map a file of ids into memory."""
    counts = TextCounts(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    return np.memmap(path, np.uint32, mode="r"), counts


def stream_of(texts: Sequence[str], tokenizer: Tokenizer) -> NDArray[np.int64]:
    """One stream of ids: each text after a `document_id`, where a model begins afresh."""
    return np.array([id for text in texts for id in (tokenizer.document_id, *tokenizer.encode(text))], np.int64)
