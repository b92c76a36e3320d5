"""The draw is exact, seeded, and blind to neighbours."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.requests import SamplingDefaults, SamplingParams, sampling_params
from core.sampling import NOT_FINITE, Draw, Sampler, log_probabilities, uniform, uniforms

VOCAB = 256


def params(**asked: float) -> SamplingParams:
    return sampling_params(SamplingDefaults(temperature=1.0, top_p=1.0), seed=1, **asked)


def some_logits(seed: int, rows: int = 1) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def draw_one(logits: torch.Tensor, settings: SamplingParams, number: float, recent: tuple[int, ...] = ()) -> int:
    return Sampler(VOCAB).draw(logits.clone(), [Draw(settings, number, recent)])[0]


def filtered(logits: torch.Tensor, settings: SamplingParams, recent: tuple[int, ...] = ()) -> list[float]:
    """The distribution after the filters, spelled out: slow, and close to the words of the definition."""
    scores = logits[0].tolist()
    for id in set(recent):
        scores[id] *= settings.repetition_penalty if scores[id] < 0 else 1 / settings.repetition_penalty
    weights = [math.exp((score - max(scores)) / settings.temperature) for score in scores]
    if settings.top_k:
        weights = [w if sum(other > w for other in weights) < settings.top_k else 0.0 for w in weights]
    chances = [w / sum(weights) for w in weights]
    chances = [p if sum(other for other in chances if other > p) < settings.top_p else 0.0 for p in chances]
    chances = [p if p >= settings.min_p * max(chances) else 0.0 for p in chances]
    return [p / sum(chances) for p in chances]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_p": 0.9},
        {"top_p": 0.5},
        {"top_p": 1e-6},
        {"top_k": 7},
        {"top_k": 1},
        {"min_p": 0.1},
        {"top_k": 20, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.3},
    ],
)
def test_draws_follow_the_filtered_distribution(asked: dict[str, float]) -> None:
    logits, recent, count = some_logits(3), tuple(range(0, VOCAB, 2)), 20_000
    settings = params(**asked)
    numbers = (np.arange(count) + 0.5) / count  # a fine grid stands for all uniform numbers
    sampler = Sampler(VOCAB)
    drawn = sampler.draw(logits.repeat(count, 1), [Draw(settings, float(number), recent) for number in numbers])
    expected = filtered(logits, settings, recent)
    counts = Counter(drawn)
    assert all(expected[id] > 0 for id in counts), "a filtered token was drawn"
    distance = sum(abs(counts[id] / count - expected[id]) for id in range(VOCAB)) / 2
    assert distance < 0.02


def test_temperature_0_takes_the_likeliest_token() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, 9] = 0.1
    assert draw_one(logits, params(temperature=0.0), 0.999) == 9


def test_equal_logits_give_the_first_token_when_greedy() -> None:
    assert draw_one(torch.zeros(1, VOCAB), params(temperature=0.0), 0.5) == 0


def test_the_uniform_number_runs_through_the_vocabulary_in_order() -> None:
    logits = torch.full((1, VOCAB), -torch.inf)
    logits[0, [3, 200]] = torch.tensor([0.25, 0.75]).log()
    assert [draw_one(logits, params(), u) for u in (0.0, 0.24, 0.26, 0.999999)] == [3, 3, 200, 200]


@pytest.mark.parametrize("rows", [1, 3])
def test_the_largest_uniform_number_never_draws_what_cannot_be(rows: int) -> None:
    logits = torch.full((rows, VOCAB), -torch.inf)
    logits[:, :100] = some_logits(8, rows)[:, :100]
    assert all(0 <= id < 100 for id in Sampler(VOCAB).draw(logits, [Draw(params(), 1 - 2**-53)] * rows))


def test_a_repetition_penalty_weakens_only_recent_tokens() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, 5], logits[0, 6] = 2.0, 1.5
    assert draw_one(logits, params(temperature=0.0, repetition_penalty=1.5), 0.5, recent=(5,)) == 6
    assert draw_one(logits, params(temperature=0.0, repetition_penalty=1.5), 0.5, recent=(7,)) == 5


def test_a_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    assert draw_one(some_logits(1), params(temperature=1e-300), 0.7) == int(some_logits(1).argmax())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_with_nan_or_infinity_fails_alone(bad: float, temperature: float) -> None:
    logits = some_logits(4, rows=3)
    logits[1, 17] = bad
    expected = [draw_one(logits[row : row + 1], params(temperature=temperature), 0.4) for row in (0, 2)]
    drawn = Sampler(VOCAB).draw(logits, [Draw(params(temperature=temperature), 0.4)] * 3)
    assert drawn == [expected[0], NOT_FINITE, expected[1]]


settings_of_rows = st.builds(
    params,
    temperature=st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.0]),
    top_k=st.sampled_from([0, 0, 1, 5, 1000]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(settings_of_rows, st.floats(0, 1, exclude_max=True)), min_size=1, max_size=40))
def test_a_row_draws_the_same_token_alone_and_in_any_batch(rows: list[tuple[SamplingParams, float]]) -> None:
    logits = some_logits(5, rows=len(rows))
    draws = [Draw(settings, number, tuple(range(20))) for settings, number in rows]
    alone = [Sampler(VOCAB).draw(logits[i : i + 1].clone(), [draw])[0] for i, draw in enumerate(draws)]
    assert Sampler(VOCAB).draw(logits.clone(), draws) == alone


def test_uniform_numbers_depend_on_seed_and_position_alone() -> None:
    assert uniforms(7, 10, 5) == [uniform(7, 10 + i) for i in range(5)]
    assert uniform(7, 10) != uniform(8, 10)
    assert uniform(7, 10) != uniform(7, 11)


def test_uniform_numbers_are_the_same_on_every_machine() -> None:
    assert uniform(2**53 - 1, 4000) == 0.20045226471864086
    assert uniforms(0, 0, 2) == [0.28176129772258496, 0.6524484863740322]  # worked out with whole numbers


def test_uniform_numbers_are_uniform_over_seeds_and_positions() -> None:
    for numbers in (uniforms(2**53 - 1, 0, 10_000), [uniform(seed, 3) for seed in range(10_000)]):
        share, _ = np.histogram(numbers, bins=10, range=(0, 1))
        assert all(abs(count - 1000) < 150 for count in share)


def test_log_probabilities_are_those_of_the_model_likeliest_first() -> None:
    logits = torch.full((4,), -torch.inf)
    logits[:3] = torch.tensor([0.2, 0.5, 0.3]).log()
    logprob, top = log_probabilities(logits, 0, 2)
    assert logprob == pytest.approx(math.log(0.2))
    assert top == [(1, pytest.approx(math.log(0.5))), (2, pytest.approx(math.log(0.3)))]
