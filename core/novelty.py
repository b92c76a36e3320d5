"""How much of a text stands in the training books: a Bloom filter over their runs of six words.

Words are compared without case, punctuation and line breaks. Every copied run of six words or more is found; a run that
is not in the books is reported with the stated false-positive rate. The filter never holds the books' text. Where books
have more runs than `max_bytes` can tell apart, a share of 2**-sampling_bits of them (chosen by hash) is kept, and long
copied runs are found by those. Follows Bloom (1970) with two hashes in place of k (Kirsch and Mitzenmacher 2006).
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .errors import CheckpointError

FILE_NAME = "novelty.safetensors"
NGRAM_WORDS = 6
FALSE_POSITIVE_RATE = 1e-4  # a page of 200 words shows a wrong span once in fifty pages
MAX_BYTES = 3 * 2**20  # the checkpoint in the repository has room for no more

Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BLOCK_WORDS = 2**18


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What of a text stands in the books: where, as a share of its words, and the longest run in words."""

    spans: list[Span]
    share: float
    longest_run: int


class NoveltyIndex:
    """The runs of `ngram_words` words that stand in a set of books."""

    def __init__(
        self,
        filter_bits: npt.NDArray[np.uint8],
        *,
        ngram_words: int,
        hash_count: int,
        ngrams: int,
        sampling_bits: int = 0,
    ) -> None:
        self.ngram_words = ngram_words
        self.ngrams = ngrams
        self.sampling_bits = sampling_bits
        self._bits = filter_bits
        self._hash_count = hash_count

    @classmethod
    def build(
        cls,
        texts: Iterable[str | Iterable[str]],
        *,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        max_bytes: int = MAX_BYTES,
    ) -> "NoveltyIndex":
        """Index `texts`, each whole or in stretches cut between words; no run crosses from one text to the next.

        Memory stays below about 40 times `max_bytes` and two stretches.
        """
        bits_per_ngram = -math.log(false_positive_rate) / math.log(2) ** 2
        capacity = int(max_bytes * 8 / bits_per_ngram)
        hashes, sampling_bits = _collect(texts, NGRAM_WORDS, capacity)
        filter_bytes = min(max_bytes, math.ceil(max(len(hashes), 1) * bits_per_ngram / 8))
        hash_count = max(1, round(-math.log2(false_positive_rate)))
        is_set = np.zeros(filter_bytes * 8, dtype=np.bool_)
        for positions in _bit_positions(hashes, hash_count, len(is_set)):
            is_set[positions] = True
        return cls(
            np.packbits(is_set, bitorder="little"),
            ngram_words=NGRAM_WORDS,
            hash_count=hash_count,
            ngrams=len(hashes),
            sampling_bits=sampling_bits,
        )

    @property
    def false_positive_rate(self) -> float:
        """How often a run of `ngram_words` words that is in no book is taken for one that is."""
        share_set = float(np.bitwise_count(self._bits).sum()) / (len(self._bits) * 8)
        return share_set**self._hash_count

    def copied(self, text: str) -> Copied:
        """Return what of `text` stands word for word in the books; its spans are in order and do not overlap."""
        words = list(_WORD.finditer(text))
        runs = self._copied_runs(words)
        stretches: list[tuple[int, int]] = []
        for first, last in runs:
            if stretches and first <= stretches[-1][1]:  # two books' words overlap
                first = stretches.pop()[0]
            stretches.append((first, last))
        return Copied(
            spans=[Span(words[first].start(), words[last].end()) for first, last in stretches],
            share=sum(last - first + 1 for first, last in stretches) / max(1, len(words)),
            longest_run=max((last - first + 1 for first, last in runs), default=0),
        )

    def save(self, folder: Path) -> None:
        """Write the index into `folder` as novelty.safetensors, aside and renamed."""
        facts = {
            "ngram_words": self.ngram_words,
            "hash_count": self._hash_count,
            "ngrams": self.ngrams,
            "sampling_bits": self.sampling_bits,
        }
        metadata = {name: str(fact) for name, fact in facts.items()}
        aside = folder / f".{FILE_NAME}"
        try:
            save_file({"filter": self._bits}, aside, metadata=metadata)
        except SafetensorError as error:  # a full disk, a folder that is closed to us
            raise OSError(f"cannot write {aside}: {error}") from None
        aside.replace(folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path) -> "NoveltyIndex | None":
        """Read the index in `folder`; None where there is none. Raises CheckpointError where it is damaged."""
        path = folder / FILE_NAME
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                facts = {name: int(fact) for name, fact in (file.metadata() or {}).items()}
                return cls(_checked(file.get_tensor("filter")), **facts)
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: expected a novelty index, got a damaged file: {error}") from None

    def _copied_runs(self, words: list[re.Match[str]]) -> list[tuple[int, int]]:
        """Return the first and the last word of every run that stands in the books."""
        hashes = ngram_hashes([match.group() for match in words], self.ngram_words)
        kept = np.flatnonzero(_sampled(hashes, self.sampling_bits))
        found = np.concatenate(([False], self._contains(hashes[kept]), [False]))
        edges = np.flatnonzero(found[1:] != found[:-1]).reshape(-1, 2)
        return [(int(kept[start]), int(kept[end - 1]) + self.ngram_words - 1) for start, end in edges]

    def _contains(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        found = np.ones(len(hashes), dtype=np.bool_)
        for positions in _bit_positions(hashes, self._hash_count, len(self._bits) * 8):
            found &= (self._bits[positions >> 3] >> (positions & 7).astype(np.uint8) & 1).astype(np.bool_)
        return found


def _collect(texts: Iterable[str | Iterable[str]], ngram_words: int, capacity: int) -> tuple[Hashes, int]:
    """Return the distinct n-grams' hashes, thinned by halves until `capacity` can hold them, and how often halved."""
    hashes, pending, sampling_bits = np.empty(0, dtype=np.uint64), [np.empty(0, dtype=np.uint64)], 0
    for words in _blocks(texts, ngram_words):
        new = ngram_hashes(words, ngram_words)
        pending.append(new[_sampled(new, sampling_bits)])
        if sum(map(len, pending)) > capacity:
            hashes, sampling_bits = _thinned(_distinct([hashes, *pending]), sampling_bits, capacity)
            pending = []
    return _thinned(_distinct([hashes, *pending]), sampling_bits, capacity)


def _distinct(parts: list[Hashes]) -> Hashes:
    """Every hash once, in order. numpy.unique takes four times as long here: it builds a hash table first."""
    hashes = np.sort(np.concatenate(parts))
    is_first = np.ones(len(hashes), dtype=np.bool_)
    np.not_equal(hashes[1:], hashes[:-1], out=is_first[1:])
    return hashes[is_first]


def _thinned(hashes: Hashes, sampling_bits: int, capacity: int) -> tuple[Hashes, int]:
    while len(hashes := hashes[_sampled(hashes, sampling_bits)]) > capacity:
        sampling_bits += 1
    return hashes, sampling_bits


def _blocks(texts: Iterable[str | Iterable[str]], ngram_words: int) -> Iterator[list[str]]:
    """Yield the words of each text in blocks of bounded length that share no whole n-gram."""
    for text in texts:
        words: list[str] = []
        for stretch in [text] if isinstance(text, str) else text:
            for match in _WORD.finditer(stretch):
                words.append(match.group())
                if len(words) == _BLOCK_WORDS:
                    yield words
                    words = words[1 - ngram_words :]
        yield words


def words_of(text: str) -> list[str]:
    """Return the words of `text` as the index compares them, but for their case."""
    return _WORD.findall(text)


def ngram_hashes(words: list[str], ngram_words: int) -> Hashes:
    """Hash every run of `ngram_words` words, without case: the same on every machine, one 64-bit number each."""
    if len(words) < ngram_words:
        return np.empty(0, dtype=np.uint64)
    code = {word: _word_hash(word) for word in set(words)}
    codes = np.fromiter((code[word] for word in words), dtype=np.uint64, count=len(words))
    hashes = np.zeros(len(words) - ngram_words + 1, dtype=np.uint64)
    for offset in range(ngram_words):
        hashes = _mixed(hashes + codes[offset : offset + len(hashes)])
    return hashes


def _word_hash(word: str) -> int:
    folded = word.casefold().replace("’", "'")
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "little")


def _mixed(hashes: Hashes) -> Hashes:
    """Spread every bit over all 64: the finaliser of SplitMix64 (Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _sampled(hashes: Hashes, sampling_bits: int) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = (hashes & np.uint64(2**sampling_bits - 1)) == 0
    return chosen


def _bit_positions(hashes: Hashes, hash_count: int, bits: int) -> Iterator[npt.NDArray[np.int64]]:
    spread = _mixed(hashes)  # sampling has fixed low bits of the hash itself
    first, step = spread & np.uint64(0xFFFFFFFF), spread >> np.uint64(32)
    for number in range(hash_count):
        yield ((first + np.uint64(number) * step) % np.uint64(bits)).astype(np.int64)


def _checked(filter_bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if filter_bits.dtype != np.uint8 or filter_bits.ndim != 1 or not len(filter_bits):
        raise ValueError(f"filter must be a row of bytes, got {filter_bits.dtype} of shape {filter_bits.shape}")
    return filter_bits
