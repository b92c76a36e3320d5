"""A split of the corpus as vocabulary ids on disk, memory-mapped, so that a corpus need not fit in memory.

Layout of the ids: `document_id`, the first book, `document_id`, the second book, ..., `document_id`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.tokenizer import Tokenizer

Ids = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCounts:
    """How long the raw text is: words are split at white space, bytes are UTF-8."""

    tokens: int
    words: int
    bytes: int


def count_text(text: str) -> tuple[int, int]:
    """Words and bytes of a text."""
    return len(text.split()), len(text.encode())


def write_ids(path: Path, texts: Iterable[str], tokenizer: Tokenizer) -> TextCounts:
    """Encode texts into a file of ids, with their counts beside it."""
    tokens = words = size = 0
    with path.open("wb") as file:
        np.array([tokenizer.document_id], np.uint32).tofile(file)
        for text in texts:
            ids = np.array([*tokenizer.encode(text), tokenizer.document_id], np.uint32)
            ids.tofile(file)
            text_words, text_bytes = count_text(text)
            tokens, words, size = tokens + len(ids) - 1, words + text_words, size + text_bytes
    counts = TextCounts(tokens=tokens, words=words, bytes=size)
    path.with_suffix(".json").write_text(json.dumps(asdict(counts)) + "\n", encoding="utf-8")
    return counts


def read_ids(path: Path) -> tuple[Ids, TextCounts]:
    """Map a file of ids into memory."""
    counts = TextCounts(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    return np.memmap(path, np.uint32, mode="r"), counts


def stream_of(texts: Sequence[str], tokenizer: Tokenizer) -> NDArray[np.int64]:
    """One stream of ids: each text after a `document_id`, where a model begins afresh."""
    return np.array([id for text in texts for id in (tokenizer.document_id, *tokenizer.encode(text))], np.int64)
