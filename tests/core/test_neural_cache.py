"""What followed a like state is likely to follow again."""

import numpy as np
import pytest

from core.neural_cache import WINDOW, NeuralCache

EAST, NORTH = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)


def probabilities(cache: NeuralCache, position: int, hidden: np.ndarray) -> np.ndarray:
    logits = np.zeros(4, np.float32)
    cache.mix(position, hidden, logits)
    return np.exp(logits)


def test_the_token_that_followed_a_like_state_gains_most() -> None:
    cache = NeuralCache(2, 0.5)
    cache.record(0, EAST, 3)
    cache.record(1, NORTH, 2)
    chances = probabilities(cache, 2, EAST)
    assert chances.sum() == pytest.approx(1)
    assert chances[3] == pytest.approx(0.125 + 0.5 / (1 + np.exp(-12)))
    assert chances[2] == pytest.approx(0.125 + 0.5 / (1 + np.exp(12)))
    assert chances[0] == pytest.approx(0.125)


def test_nothing_is_mixed_in_before_there_is_anything_to_remember() -> None:
    assert probabilities(NeuralCache(2, 0.5), 0, EAST).tolist() == [1, 1, 1, 1]  # logits untouched


def test_only_the_last_tokens_are_remembered() -> None:
    cache = NeuralCache(2, 1.0)
    cache.record(0, EAST, 3)
    for position in range(1, WINDOW + 1):
        cache.record(position, NORTH, 1)
    assert probabilities(cache, WINDOW + 1, EAST) == pytest.approx([0.00025, 0.99925, 0.00025, 0.00025], rel=1e-4)


@pytest.mark.parametrize("remembered", [0, 1])
def test_what_cannot_be_drawn_stays_impossible(remembered: int) -> None:
    cache, logits = NeuralCache(2, 0.3), np.array([0.0, -np.inf], np.float32)
    cache.record(0, EAST, remembered)
    cache.mix(1, EAST, logits)
    assert logits[1] == -np.inf
    assert np.isfinite(logits[0])
