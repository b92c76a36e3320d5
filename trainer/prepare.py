"""Lays a run's data out once: the tokenizer, the ids of every split and the novelty index, in `OUT/data`.

Texts pass through in stretches and are never held whole, however large the corpus is.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from core.novelty import NoveltyIndex
from core.tokenizer import SPECIAL_PIECES, Tokenizer, TokenizerKind

from .corpus import Document, utf8
from .split import Split
from .tokens import Ids, TextCounts, read_ids, write_ids

_TOKENIZER_BYTES = 20_000_000  # of each of corpus and pretraining books: more changes few pieces, and costs memory
_SAMPLED_FROM = 50_000  # characters, of which the first are taken
_COVERAGE = 0.98, 0.9999  # least and most of the text that characters of the vocabulary make up
_BYTE_PIECES = 260  # of a vocabulary: every byte, unknown, document and the line ends
_BOOKS = "books.json"
PARTS = ("train", "valid", "test", "pretrain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The tokenizer, and of each part the names of its books and their ids; `pretrain` and `test` may be missing."""

    tokenizer: Tokenizer
    books: dict[str, list[str]]
    ids: dict[str, Ids]
    counts: dict[str, TextCounts]


def prepare(
    folder: Path,
    split: Split,
    pretrain: list[Document],
    *,
    vocab_size: int,
    kind: TokenizerKind,
    min_count: int = 1,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Learn the vocabulary, from training text only, unless one is given, and encode everything."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _BOOKS).unlink(missing_ok=True)  # until all of it is there again
    if tokenizer is None:
        coverage = _COVERAGE[1]
        if kind in ("unigram", "bpe"):
            vocab_size, coverage = _room_for_characters(_to_learn_from(split.train, [], kind), vocab_size)
        tokenizer = Tokenizer.train(
            _to_learn_from(split.train, pretrain, kind),
            vocab_size=vocab_size,
            kind=kind,
            min_count=min_count,
            character_coverage=coverage,
        )
    (folder / "tokenizer.model").write_bytes(tokenizer.to_bytes())
    parts = {"train": split.train, "valid": split.valid, "test": split.test, "pretrain": pretrain}
    titles = {name: dict.fromkeys(utf8(document.path.stem) for document in parts[name]) for name in PARTS}
    books = {name: list(found) for name, found in titles.items() if found}
    for name in books:
        write_ids(folder / f"{name}.ids", (document.stretches() for document in parts[name]), tokenizer)
    NoveltyIndex.build(document.stretches() for document in split.train).save(folder)
    (folder / _BOOKS).write_text(json.dumps(books) + "\n", encoding="utf-8")  # last: now all of it is there


def count_closed(documents: Iterable[Document], kind: TokenizerKind, min_count: int) -> tuple[int, int]:
    """How many pieces a vocabulary of all words or characters needs, and how many tokens they make of the books."""
    counts: Counter[str] = Counter()
    line_ends = 0  # tokens beside the words
    for document in documents:
        for stretch in document.stretches():
            counts.update(stretch.split() if kind == "word" else stretch)
            line_ends += stretch.count("\n") if kind == "word" else 0
    least = min_count if kind == "word" else 1
    return SPECIAL_PIECES + sum(count >= least for count in counts.values()), counts.total() + line_ends


def _room_for_characters(texts: Iterable[str], vocab_size: int) -> tuple[int, float]:
    """A vocabulary that has room for the text's characters beside some longer pieces, and what share of it they cover.

    Chinese has thousands of characters; the rarest are spelled in bytes where they find no room.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    covered = np.cumsum([count for _, count in counts.most_common()]) / max(1, counts.total())
    room = min(max(1, (vocab_size - _BYTE_PIECES) * 3 // 4), len(covered))
    coverage = float(np.clip(covered[room - 1], *_COVERAGE))
    characters = int(np.searchsorted(covered, coverage)) + 1
    return max(vocab_size, _BYTE_PIECES + characters * 4 // 3), coverage


def is_prepared(folder: Path) -> bool:
    """Whether an earlier process finished laying the data out here."""
    return (folder / _BOOKS).exists()


def open_data(folder: Path) -> Data:
    """Map what `prepare` wrote."""
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    books = json.loads((folder / _BOOKS).read_text(encoding="utf-8"))
    parts = {name: read_ids(folder / f"{name}.ids") for name in books}
    return Data(
        tokenizer=tokenizer,
        books=books,
        ids={name: ids for name, (ids, _) in parts.items()},
        counts={name: counts for name, (_, counts) in parts.items()},
    )


def oov_rates(data: Data) -> dict[str, float]:
    """What share of the tokens of validation and test text a closed vocabulary does not know; empty for an open one."""
    if data.tokenizer.is_lossless:
        return {}
    unknown = data.tokenizer.unknown_id
    counts = {part: int(np.count_nonzero(data.ids[part] == unknown)) for part in ("valid", "test") if part in data.ids}
    return {part: count / max(1, data.counts[part].tokens) for part, count in counts.items()}


def table(data: Data) -> str:
    """The split as people check it: tokens, words and bytes of each part."""
    rows = [(name, data.counts[name]) for name in PARTS if name in data.counts]
    main = [counts for name, counts in rows if name != "pretrain"]
    lines = [f"{'part':<12}{'tokens':>14}{'words':>14}{'bytes':>14}"]
    names = {"train": "training", "valid": "validation", "test": "test", "pretrain": "pretraining"}
    for name, counts in rows:
        if name != "pretrain":
            lines.append(f"{names[name]:<12}{counts.tokens:>14,}{counts.words:>14,}{counts.bytes:>14,}")
    sums = [sum(getattr(counts, unit) for counts in main) for unit in ("tokens", "words", "bytes")]
    lines.append(f"{'total':<12}" + "".join(f"{value:>14,}" for value in sums))
    if "pretrain" in data.counts:
        counts = data.counts["pretrain"]
        lines.append(f"{'pretraining':<12}{counts.tokens:>14,}{counts.words:>14,}{counts.bytes:>14,}")
    lines += [f"of {names[part]} tokens {rate:.1%} are not in the vocabulary" for part, rate in oov_rates(data).items()]
    return "\n".join(lines)


def _to_learn_from(train: list[Document], pretrain: list[Document], kind: TokenizerKind) -> Iterator[str]:
    """The text that the vocabulary is learned from: every word of the books counts, of pieces a sample is enough."""
    if kind == "word":
        return (stretch for document in train for stretch in document.stretches())
    wanted = min(_TOKENIZER_BYTES, sum(document.size for document in train))
    return chain(_sample(train, wanted), _sample(pretrain, wanted))


def _sample(documents: list[Document], wanted: int) -> Iterator[str]:
    """Even samples of every text, about `wanted` bytes in all."""
    share = min(1.0, wanted / max(1, sum(document.size for document in documents)))
    for document in documents:
        for stretch in document.stretches(_SAMPLED_FROM):
            yield stretch[: math.ceil(len(stretch) * share)]
