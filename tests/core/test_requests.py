"""Requests are checked once, where they are made, with messages fit to show."""

import math
from typing import Any

import pytest

from core.errors import InputError
from core.requests import RANGES, SEED_RANGE, GenerationRequest, Limits, SamplingDefaults, sampling_params

DEFAULTS = SamplingDefaults()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", -1, r"temperature must be in \[0, 2\], got -1"),
        ("temperature", math.nan, r"temperature must be in \[0, 2\], got nan"),
        ("temperature", 10**400, r"temperature must be in \[0, 2\], got 1000"),
        ("top_k", 10**400, r"top_k must be a whole number in \[0, 1000\], got 1000"),
        ("temperature", "hot", r"temperature must be in \[0, 2\], got 'hot'"),
        ("temperature", True, r"temperature must be in \[0, 2\], got True"),
        ("top_p", 1.7, r"top_p must be in \(0, 1\], got 1.7"),
        ("top_p", 0, r"top_p must be in \(0, 1\], got 0"),
        ("top_k", 2.5, r"top_k must be a whole number in \[0, 1000\], got 2.5"),
        ("repetition_penalty", 0.5, r"repetition_penalty must be in \[1, 2\], got 0.5"),
        ("max_tokens", 0, "max_tokens must be a whole number of at least 1, got 0"),
        ("seed", -1, "seed must be a whole number in"),
        ("seed", SEED_RANGE, "seed must be a whole number in"),
        ("stop", ("",), "each stop must be a string of 1 to 200 characters, got ''"),
        ("stop", ("x",) * 17, "stop must hold at most 16 strings, got 17"),
    ],
)
def test_a_value_out_of_range_is_refused_and_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sampling_params(DEFAULTS, **{field: value})
    assert caught.value.field == field


def test_what_was_not_asked_comes_from_the_defaults() -> None:
    params = sampling_params(DEFAULTS, top_k=5, temperature=None, seed=3)
    assert (params.top_k, params.temperature, params.seed) == (5, DEFAULTS.temperature, 3)


def test_a_seed_is_drawn_where_none_is_given() -> None:
    seeds = {sampling_params(DEFAULTS).seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < SEED_RANGE for seed in seeds)


def test_the_limits_name_what_came() -> None:
    limits = Limits(max_prompt_bytes=10, max_tokens=5)
    params = sampling_params(DEFAULTS, max_tokens=5)
    limits.check(GenerationRequest(prompt="é" * 5, sampling=params))
    with pytest.raises(InputError, match="prompt must be at most 10 bytes, got 12"):
        limits.check(GenerationRequest(prompt="é" * 6, sampling=params))
    with pytest.raises(InputError, match=r"max_tokens must be in \[1, 5\], got 200"):
        limits.check(GenerationRequest(prompt="", sampling=sampling_params(DEFAULTS)))


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(InputError, match="lone surrogate at character 2"):
        GenerationRequest(prompt="ab\ud800", sampling=sampling_params(DEFAULTS))


@pytest.mark.parametrize("pace", [1e-10, 0.499, -1.0, 1000.1, math.inf])
def test_a_pace_that_would_hold_a_slot_for_ever_is_refused(pace: float) -> None:
    with pytest.raises(InputError, match=r"pace must be 0 or in \[0\.5, 1000\], got"):
        GenerationRequest(prompt="", sampling=sampling_params(DEFAULTS), pace=pace)


def test_the_defaults_lie_within_the_ranges() -> None:
    defaults = DEFAULTS.model_dump()
    assert all(defaults[name] in RANGES[name] for name in defaults if name in RANGES)
