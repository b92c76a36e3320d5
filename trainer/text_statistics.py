"""How a set of texts reads in figures: variety, repetition, what is copied from the books, and surprise.

Every figure depends on how long the texts are, so generated and human texts are compared in samples of equal length.
Words and marks of punctuation count as words here, case as it stands; copies are found as the novelty index finds them,
but exactly.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from core.novelty import ngram_hashes, words_of

NOVELTY_LENGTHS = tuple(range(4, 13))
NOISE = 0.02  # of repeated 4-grams: one phrase that comes five times makes this much of a text of 200 words
NEW_NOISE = 0.005  # of new words: one name that comes once
SELF_BLEU_TEXTS = 100  # enough for two decimals; the figure costs the square of their number
_WORD_OR_MARK = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStatistics:
    """Means over the texts. Shares go from 0 to 1; `copied` is by length of run in words; `longest_run` is in words.

    `new_words` is the share of words that stand in no book that was read: an author's are names, a model's made up.
    """

    texts: int
    words: int
    distinct: dict[int, float]
    repeated_4grams: float
    self_bleu: float
    copied: dict[int, float]
    longest_run: int
    new_words: float
    mean_surprise: float | None = None

    def distance(self, other: "TextStatistics") -> float:
        """Return how unlike two sets of texts read: the root mean square of the figures' log ratios.

        Taken over what a setting should bring close to human text: repetition, distinct 2- and 3-grams, self-BLEU, new
        words and mean surprise. 0.1 means about 10 % off in each.
        """
        pairs = [
            (self.repeated_4grams + NOISE, other.repeated_4grams + NOISE),
            (self.distinct[2], other.distinct[2]),
            (self.distinct[3], other.distinct[3]),
            (self.self_bleu, other.self_bleu),
            (self.new_words + NEW_NOISE, other.new_words + NEW_NOISE),
        ]
        if self.mean_surprise is not None and other.mean_surprise is not None:
            pairs.append((self.mean_surprise, other.mean_surprise))
        return math.sqrt(sum(math.log(mine / theirs) ** 2 for mine, theirs in pairs) / len(pairs))


def text_statistics(
    texts: Sequence[str], books: "TrainingBooks", *, mean_surprise: float | None = None
) -> TextStatistics:
    """Measure `texts` against the books that a model was trained on."""
    tokens = [_WORD_OR_MARK.findall(text) for text in texts]
    return TextStatistics(
        texts=len(texts),
        words=sum(len(words_of(text)) for text in texts),
        distinct={n: _mean(distinct_share(text, n) for text in tokens) for n in (1, 2, 3)},
        repeated_4grams=_mean(1 - distinct_share(text, 4) for text in tokens),
        self_bleu=self_bleu(tokens[:SELF_BLEU_TEXTS]),
        copied={n: books.copied_share(texts, n) for n in NOVELTY_LENGTHS},
        longest_run=max((books.longest_run(text) for text in texts), default=0),
        new_words=books.new_share(texts),
        mean_surprise=mean_surprise,
    )


class TrainingBooks:
    """Every run of 4 to 12 words of the books, exactly (but for 64-bit hash collisions): about 90 bytes a word.

    Of `others`, read before them, only the words are kept.
    """

    def __init__(self, texts: Iterable[str], *, others: Iterable[str] = ()) -> None:
        words = [words_of(text) for text in texts]
        self._words = {word.casefold() for text in chain(words, map(words_of, others)) for word in text}
        self._hashes = {
            n: np.unique(np.concatenate([ngram_hashes(text, n) for text in words])) for n in NOVELTY_LENGTHS
        }

    def copied_share(self, texts: Iterable[str], length: int) -> float:
        """Return the share of all runs of `length` words in `texts` that stand in the books."""
        found = np.concatenate([self._found(text, length) for text in texts])
        return float(found.mean()) if len(found) else 0.0

    def new_share(self, texts: Iterable[str]) -> float:
        """Return the share of all words in `texts` that stand nowhere in the books, without case."""
        words = [word.casefold() for text in texts for word in words_of(text)]
        return sum(word not in self._words for word in words) / max(1, len(words))

    def longest_run(self, text: str) -> int:
        """Return the length in words of the longest run of `text` that stands in the books.

        0 where it is shorter than the shortest that is indexed. One longer than the longest is taken for a copy where
        every part of that length is one.
        """
        for length in sorted(self._hashes, reverse=True):
            found = self._found(text, length)
            if found.any():
                if length < max(self._hashes):
                    return length  # two that overlap are no longer copy: the longer run was looked for and is not there
                edges = np.flatnonzero(np.diff(np.concatenate(([0], found.astype(np.int8), [0]))))
                return int((edges[1::2] - edges[::2]).max()) + length - 1
        return 0

    def _found(self, text: str, length: int) -> npt.NDArray[np.bool_]:
        hashes, known = ngram_hashes(words_of(text), length), self._hashes[length]
        if not len(known):
            return np.zeros(len(hashes), dtype=np.bool_)
        found: npt.NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
        return found


def distinct_share(tokens: Sequence[str], length: int) -> float:
    """Return distinct-n: the share of the n-grams that are different (Li et al. 2016); 1 where there are none."""
    ngrams = _ngrams(tokens, length)
    return len(ngrams) / ngrams.total() if ngrams else 1.0


def self_bleu(texts: Sequence[Sequence[str]], order: int = 4) -> float:
    """Return how alike the texts are: the mean BLEU of each against all others (Zhu et al. 2018).

    Clipped precision with every count of zero taken as a half (as in sacrebleu's `floor`), no brevity penalty: the
    texts are of equal length. 0 to 1; 0 for a single text.
    """
    if len(texts) < 2:
        return 0.0
    log_precision = np.zeros(len(texts))
    for length in range(1, order + 1):
        counts = [_ngrams(text, length) for text in texts]
        best = _two_largest(counts)
        for number, own in enumerate(counts):
            matched = 0
            for ngram, count in own.items():
                owner, most, second = best[ngram]
                matched += min(count, second if owner == number else most)
            log_precision[number] += math.log(max(matched, 0.5) / max(own.total(), 1)) / order
    return float(np.exp(log_precision).mean())


def cut_samples(texts: Iterable[str], words: int, count: int) -> list[str]:
    """Cut human texts into at most `count` samples of `words` words, evenly spread, each from a line's start.

    From a paragraph's, where paragraphs are set off by empty lines.
    """
    samples = []
    for text in texts:
        border = "\n\n" if text.count("\n\n") * words > len(text.split()) else "\n"
        sample: list[str] = []
        length = 0
        for paragraph in text.split(border):
            sample.append(paragraph)
            length += len(paragraph.split())
            if length >= words:
                samples.append(first_words(border.join(sample), words))
                sample, length = [], 0
    step = max(1.0, len(samples) / count)
    return [samples[int(number * step)] for number in range(min(count, len(samples)))]


def first_words(text: str, count: int) -> str:
    """Return `text` up to the end of its first `count` words, split at white space."""
    match = re.match(rf"\s*(?:\S+\s+){{0,{count - 1}}}\S+", text)
    return match.group() if match else ""


def _ngrams(tokens: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[offset:] for offset in range(length)), strict=False))


def _two_largest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Return for each n-gram which text has it most often, how often, and how often the next one has it."""
    best: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for number, own in enumerate(counts):
        for ngram, count in own.items():
            owner, most, second = best.get(ngram, (-1, 0, 0))
            best[ngram] = (number, count, most) if count > most else (owner, most, max(second, count))
    return best


def _mean(values: Iterable[float]) -> float:
    collected = list(values)
    return sum(collected) / len(collected) if collected else 0.0
