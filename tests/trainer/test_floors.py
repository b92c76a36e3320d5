"""The n-gram model is a probability distribution with the textbook's numbers; the compressors have read the books."""

import math
from random import Random

import numpy as np
import pytest

from core.errors import CorpusError
from trainer.floors import KneserNey, ppmd_bits, xz_bits

# The six bigrams of "a b a b a c a d" are ab ba (twice each) and ac ca ad (once); "a" stands after b and c.
IDS = np.array([0, 1, 0, 1, 0, 2, 0, 3])


def probability(model: KneserNey, ids: list[int]) -> float:
    return float(model.probabilities(np.array(ids))[-1])


def test_a_bigram_is_worked_by_hand() -> None:
    model = KneserNey(IDS, vocab_size=5, order=2)
    # Too few counts for their own discounts, so 0.5 is taken from each. Continuations: a after b, c; b, c, d after a;
    # the five continuations of four words leave 4 * 0.5 / 5 to the uniform 1/5.
    unigram_b = (1 - 0.5) / 5 + (4 * 0.5 / 5) * (1 / 5)
    # After "a": b twice, c, d: 4 in all, 3 * 0.5 / 4 left over.
    assert probability(model, [0, 1]) == pytest.approx((2 - 0.5) / 4 + (3 * 0.5 / 4) * unigram_b)
    # After "d", which nothing follows, and after an unknown word only the unigram is left.
    assert probability(model, [3, 1]) == pytest.approx(unigram_b)
    assert probability(model, [4, 1]) == pytest.approx(unigram_b)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one_after_any_context(order: int) -> None:
    random = Random(order)
    ids = np.array([min(random.randrange(12), random.randrange(12)) for _ in range(3000)])
    model = KneserNey(ids, vocab_size=13, order=order)
    for start in (0, 100, 2990):
        context = ids[start : start + 6].tolist()
        assert sum(probability(model, [*context, last]) for last in range(13)) == pytest.approx(1)
    assert sum(probability(model, [12, 12, last]) for last in range(13)) == pytest.approx(1)


def test_discounts_follow_the_counts_of_counts() -> None:
    random = Random(7)
    ids = np.array([int(random.paretovariate(0.7)) % 300 for _ in range(4000)])
    model = KneserNey(ids, vocab_size=300, order=1)
    counts = np.bincount(ids)
    n = [int((counts == k).sum()) for k in range(5)]
    y = n[1] / (n[1] + 2 * n[2])
    once = int(np.flatnonzero(counts == 1)[0])
    taken = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
    leftover = sum(taken[min(count, 3) - 1] for count in counts.tolist() if count)
    assert probability(model, [once]) == pytest.approx((1 - taken[0] + leftover / 300) / 4000)


def test_longer_contexts_help_where_text_repeats() -> None:
    ids = np.array([0, 1, 2, 0, 3, 2, 0, 1, 2, 0, 3, 4] * 50)
    long, short = (-np.log(KneserNey(ids, vocab_size=5, order=order).probabilities(ids)).sum() for order in (4, 2))
    assert long < short / 2


def test_a_text_shorter_than_its_n_grams_is_refused() -> None:
    with pytest.raises(CorpusError, match="expected more than 5 tokens to count n-grams of, got 3"):
        KneserNey(np.array([1, 2, 3]), vocab_size=4)


@pytest.mark.parametrize("bits", [ppmd_bits, xz_bits])
def test_a_compressor_knows_what_it_has_read(bits: object) -> None:
    assert callable(bits)
    random = Random(3)
    book = bytes(random.choice(b"abcdefgh ") for _ in range(20_000))
    new = bytes(random.choice(b"abcdefgh ") for _ in range(5_000))
    assert bits(book, book[5_000:10_000]) < 1_000
    assert bits(book, new) == pytest.approx(5_000 * math.log2(9), rel=0.3)
