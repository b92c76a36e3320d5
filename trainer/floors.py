"""What simpler machines make of the same text: the floors that a neural model has to beat.

Modified Kneser-Ney n-grams (Chen and Goodman 1999) over the same tokens, and two compressors that have read the
training text: PPMd (pyppmd) and xz (lzma). The n-gram model is our own, in NumPy: of the maintained libraries, kenlm's
Python package can only query, varikn ends at Python 3.11, and nltk's interpolated Kneser-Ney has one fixed discount.
"""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyppmd

from core.errors import CorpusError
from core.tokenizer import Tokenizer

from .tokens import count_text, stream_of

ORDER = 5
PPMD_ORDER = 8
PPMD_MEMORY_BYTES = 1 << 28
CLOSED = ", closed vocabulary"  # after the name of a floor that need not tell unknown words apart

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def measure_floors(
    training: Sequence[str], texts: Sequence[str], tokenizer: Tokenizer
) -> dict[str, dict[str, float | None]]:
    """Return bits a byte and word perplexity of `texts` by each floor, after reading `training`."""
    words, size = (sum(counts) for counts in zip(*map(count_text, texts), strict=True))
    model = KneserNey(stream_of(training, tokenizer), vocab_size=tokenizer.vocab_size)
    ids = stream_of(texts, tokenizer)
    probabilities = model.probabilities(ids)[ids != tokenizer.document_id]  # where a text ends is not part of it
    read, new = ("\n\n".join(part).encode() for part in (training, texts))
    closed = "" if tokenizer.is_lossless else CLOSED
    bits = {
        f"modified Kneser-Ney {ORDER}-gram{closed}": float(-np.log2(probabilities).sum()),
        f"PPMd order {PPMD_ORDER}, primed": float(ppmd_bits(read, new)),
        "xz, primed": float(xz_bits(read, new)),
    }
    return {
        name: {"bits_per_byte": value / size, "word_perplexity": 2 ** min(1000.0, value / words) if words else None}
        for name, value in bits.items()
    }


class KneserNey:
    """An n-gram model of token ids with modified Kneser-Ney smoothing, interpolated, every order down to uniform.

    The n-grams are a trie in sorted arrays: n tokens are the number of the first n-1, times V, plus the last,
    so that a whole text is looked up at once.
    """

    def __init__(self, ids: Ids, *, vocab_size: int, order: int = ORDER) -> None:
        if len(ids) <= order:
            raise CorpusError(f"expected more than {order} tokens to count n-grams of, got {len(ids)}")
        self.vocab_size = vocab_size
        self.order = order
        self._keys: list[Ids] = []
        numbers: list[Ids] = []  # by length: which n-gram ends at each token
        contexts = np.zeros(len(ids), dtype=np.int64)  # the empty one stands before every token
        for length in range(1, order + 1):
            unique, inverse = np.unique(_keys(contexts, ids, vocab_size)[length - 1 :], return_inverse=True)
            self._keys.append(unique)
            numbers.append(np.concatenate((np.full(length - 1, -1), inverse)))
            contexts = _shifted(numbers[-1])
        self._levels = [self._level(length, numbers) for length in range(1, order + 1)]

    def probabilities(self, ids: Ids) -> Floats:
        """Return the probability of every token of `ids` after those before it."""
        probabilities = np.full(len(ids), 1 / self.vocab_size)
        contexts = np.zeros(len(ids), dtype=np.int64)
        for keys, level in zip(self._keys, self._levels, strict=True):
            numbers = _find(keys, _keys(contexts, ids, self.vocab_size))
            probabilities = level.interpolated(numbers, contexts, probabilities)
            contexts = _shifted(numbers)
        return probabilities

    def _level(self, length: int, numbers: list[Ids]) -> "_Level":
        here = numbers[length - 1][length - 1 :]
        if length == self.order:
            counts = np.bincount(here)
        else:  # how many different tokens stand before it: count each longer n-gram once, wherever it first ends
            _, first = np.unique(numbers[length][length:], return_index=True)
            counts = np.bincount(here[1:][first], minlength=len(self._keys[length - 1]))
            counts = np.maximum(counts, 1)  # nothing stands before the text's own first n-gram
        context_count = 1 if length == 1 else len(self._keys[length - 2])
        return _Level.of(counts, self._keys[length - 1] // self.vocab_size, context_count)


@dataclass(frozen=True, slots=True)
class _Level:
    """All n-grams of one length: the discounted share of each, and what each context leaves to the shorter ones."""

    share: Floats  # by n-gram
    leftover: Floats  # by context

    @classmethod
    def of(cls, counts: Ids, contexts: Ids, context_count: int) -> "_Level":
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(contexts, weights=counts, minlength=context_count)
        withheld = np.bincount(contexts, weights=discounts, minlength=context_count)
        safe = np.maximum(totals, 1)  # a context that was only ever seen at the end leaves everything
        return cls((counts - discounts) / safe[contexts], np.where(totals > 0, withheld / safe, 1.0))

    def interpolated(self, ngrams: Ids, contexts: Ids, shorter: Floats) -> Floats:
        """Mix with the shorter n-grams' probabilities; -1 stands for what was never seen."""
        share = np.where(ngrams >= 0, self.share[ngrams], 0.0)
        leftover = np.where(contexts >= 0, self.leftover[contexts], 1.0)
        return share + leftover * shorter


def ppmd_bits(training: bytes, text: bytes) -> int:
    """Return how many bits PPMd var. H needs for `text` after it has read `training`."""

    def size(content: bytes) -> int:
        encoder = pyppmd.Ppmd7Encoder(PPMD_ORDER, PPMD_MEMORY_BYTES)
        return len(encoder.encode(content)) + len(encoder.flush())

    return 8 * (size(training + text) - size(training))


def xz_bits(training: bytes, text: bytes) -> int:
    """Return how many bits xz needs for `text` with `training` as its dictionary."""
    dictionary_bytes = min(max(len(training) + len(text), 1 << 20), 1536 << 20)
    chain = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary_bytes}]

    def size(content: bytes) -> int:
        return len(lzma.compress(content, format=lzma.FORMAT_RAW, filters=chain))

    return 8 * (size(training + text) - size(training))


def _keys(contexts: Ids, ids: Ids, vocab_size: int) -> Ids:
    return np.where(contexts >= 0, contexts * vocab_size + ids, -1)


def _shifted(numbers: Ids) -> Ids:
    return np.concatenate(([-1], numbers[:-1]))


def _find(keys: Ids, wanted: Ids) -> Ids:
    positions = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[positions] == wanted, positions, -1)


def _discounts(counts: Ids) -> Floats:
    """Return what to take from counts of 0, 1, 2 and 3 or more (Chen and Goodman 1999)."""
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if not all((n1, n2, n3, n4)):  # too little text to estimate them from
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n1 / (n1 + 2 * n2)
    return np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]).clip(0.0, [0, 1, 2, 3])
