"""States are found by the longest prefix, and the least recently used go first."""

import numpy as np
import pytest

from core.state_cache import PrefixHash, StateCache


def state(value: float, size: int = 256) -> np.ndarray:
    return np.full(size, value, dtype=np.float32)


def remember(cache: StateCache, tokens: list[int], value: float) -> None:
    cache.put(PrefixHash().extend(tokens, len(tokens)), len(tokens), state(value))


def found(cache: StateCache, tokens: list[int], limit: int | None = None) -> tuple[int, float] | None:
    entry = cache.longest(tokens, len(tokens) if limit is None else limit)
    return None if entry is None else (entry[0], float(entry[1][0]))


def test_the_longest_known_prefix_is_found() -> None:
    cache = StateCache(10**6)
    remember(cache, [1, 2], 2.0)
    remember(cache, [1, 2, 3, 4], 4.0)
    assert found(cache, [1, 2, 3, 4, 5]) == (4, 4.0)
    assert found(cache, [1, 2, 3, 9]) == (2, 2.0)
    assert found(cache, [2, 1]) is None
    assert (cache.hits, cache.misses) == (2, 1)


def test_a_limit_keeps_longer_prefixes_out() -> None:
    cache = StateCache(10**6)
    remember(cache, [1, 2], 2.0)
    remember(cache, [1, 2, 3], 3.0)
    assert found(cache, [1, 2, 3], limit=2) == (2, 2.0)


def test_the_least_recently_used_state_goes_first() -> None:
    cache = StateCache(3 * (256 * 4 + 400))
    for token in (1, 2, 3):
        remember(cache, [token], float(token))
    assert found(cache, [1]) == (1, 1.0)  # used: now 2 is the oldest
    remember(cache, [4], 4.0)
    assert [found(cache, [token]) is not None for token in (1, 2, 3, 4)] == [True, False, True, True]
    assert cache.size_bytes <= 3 * (256 * 4 + 400)


def test_memory_stays_bounded_over_thousands_of_states() -> None:
    cache = StateCache(100_000)
    for number in range(10_000):
        remember(cache, [number, number % 7], 1.0)
    assert cache.size_bytes <= 100_000
    assert len(cache) == 100_000 // (256 * 4 + 400)
    assert sum(cache._lengths.values()) == len(cache)


def test_a_state_larger_than_the_cache_is_not_kept() -> None:
    cache = StateCache(0)
    remember(cache, [1], 1.0)
    assert (len(cache), cache.size_bytes) == (0, 0)


@pytest.mark.parametrize("cuts", [[5], [1, 5], [2, 3, 4, 5]])
def test_a_digest_does_not_depend_on_the_stops_on_the_way(cuts: list[int]) -> None:
    tokens, prefix = [7, 300, 2**31 - 1, 0, 5], PrefixHash()
    assert [prefix.extend(tokens, cut) for cut in cuts][-1] == PrefixHash().extend(tokens, 5)
