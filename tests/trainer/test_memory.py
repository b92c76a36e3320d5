"""The cache and dynamic evaluation against plain loops, on a tiny real model."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from core.checkpoint import Checkpoint, load_checkpoint
from tests.tiny import TEXT
from trainer.memory import (
    CacheSettings,
    DynamicSettings,
    GradientStatistics,
    token_nats,
    tune_cache,
    tune_dynamic,
)

NEW = "The lantern sang to the goose. The goose sang to the lantern. The lantern sang to the goose again. " * 3


@pytest.fixture(scope="module")
def tiny(rough_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(rough_checkpoint)


@pytest.fixture(scope="module")
def new_ids(tiny: Checkpoint) -> np.ndarray:
    return np.array([tiny.tokenizer.document_id, *tiny.tokenizer.encode(NEW)])


@pytest.fixture(scope="module")
def statistics(tiny: Checkpoint) -> GradientStatistics:
    ids = np.array([tiny.tokenizer.document_id, *tiny.tokenizer.encode(TEXT)])
    return GradientStatistics(tiny.model, ids, segment=20)


def test_without_memory_it_is_the_models_own_loss(tiny: Checkpoint, new_ids: np.ndarray) -> None:
    ids = torch.from_numpy(new_ids)[:, None]
    with torch.no_grad():
        logits, _ = tiny.model(ids[:-1], tiny.model.init_state(1))
    expected = functional.cross_entropy(logits[:, 0], ids[1:, 0], reduction="none")
    np.testing.assert_allclose(token_nats(tiny.model, new_ids), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_cache_is_the_papers_mixture(tiny: Checkpoint, new_ids: np.ndarray) -> None:
    settings = CacheSettings(window=30, flatness=0.4, share=0.25)
    ids = torch.from_numpy(new_ids)
    with torch.no_grad():
        hidden, _ = tiny.model.hidden(ids[:-1, None], tiny.model.init_state(1))
    outputs = hidden.output[:, 0]
    static = token_nats(tiny.model, new_ids)
    for t in (0, 1, 17, len(static) - 1):
        recent = range(max(0, t - 30), t)
        weights = [math.exp(0.4 * float(outputs[t] @ outputs[i])) for i in recent]
        copies = sum(weight for weight, i in zip(weights, recent, strict=True) if ids[i + 1] == ids[t + 1])
        share = copies / sum(weights) if weights else None
        plain = math.exp(-static[t])
        expected = plain if share is None else 0.75 * plain + 0.25 * share
        assert token_nats(tiny.model, new_ids, cache=settings)[t] == pytest.approx(-math.log(expected), rel=1e-4)


def test_the_cache_does_not_depend_on_how_the_text_is_cut(
    tiny: Checkpoint, new_ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CacheSettings(window=25, flatness=0.3, share=0.2)
    whole = token_nats(tiny.model, new_ids, cache=settings)
    monkeypatch.setattr("trainer.memory.STATIC_SEGMENT", 7)
    np.testing.assert_allclose(token_nats(tiny.model, new_ids, cache=settings), whole, rtol=1e-4, atol=1e-5)


def test_dynamic_evaluation_is_the_papers_update(
    tiny: Checkpoint, new_ids: np.ndarray, statistics: GradientStatistics
) -> None:
    settings = DynamicSettings(segment=10, learning_rate=1e-3, decay=0.01, damping=0.5, floor=0.3, reach=2.0)
    measured = token_nats(tiny.model, new_ids[:31], dynamic=settings, statistics=statistics)
    model = load_checkpoint(tiny.path).model
    parameters = list(model.parameters())
    trained = [parameter.detach().clone() for parameter in parameters]
    mean = statistics.rms.mean()
    rms = statistics.rms.split([parameter.numel() for parameter in parameters])
    state, expected = model.init_state(1), []
    for start in (0, 10, 20):
        ids = torch.from_numpy(new_ids[start : start + 11])
        logits, state = model(ids[:-1, None], state)
        losses = functional.cross_entropy(logits[:, 0], ids[1:], reduction="none")
        expected += losses.tolist()
        gradients = torch.autograd.grad(losses.mean(), parameters)
        state = tuple(tensor.detach() for tensor in state)
        with torch.no_grad():
            for parameter, start_value, gradient, scale in zip(parameters, trained, gradients, rms, strict=True):
                scale = scale.view_as(parameter)
                parameter -= 1e-3 * (gradient / (scale + 0.5 * mean)).clamp(-2, 2)
                parameter += (start_value - parameter) * (0.01 * (scale / mean + 0.3)).clamp_max(1)
    np.testing.assert_allclose(measured, expected, rtol=1e-3, atol=1e-4)


def test_the_statistics_are_of_the_gradient_of_each_segment(tiny: Checkpoint, new_ids: np.ndarray) -> None:
    model = load_checkpoint(tiny.path).model
    parameters = list(model.parameters())
    state, squares = model.init_state(1), torch.zeros(sum(parameter.numel() for parameter in parameters))
    for start, stop in ((0, 20), (20, 40), (40, 45)):
        ids = torch.from_numpy(new_ids[start : stop + 1])
        logits, state = model(ids[:-1, None], state)
        loss = functional.cross_entropy(logits[:, 0], ids[1:])
        gradients = torch.autograd.grad(loss, parameters)
        state = tuple(tensor.detach() for tensor in state)
        squares += torch.cat([gradient.reshape(-1) for gradient in gradients]).square()
    measured = GradientStatistics(tiny.model, new_ids[:46], segment=20)
    torch.testing.assert_close(measured.rms, (squares / 3).sqrt(), rtol=1e-3, atol=1e-7)


def test_the_weights_are_put_back(tiny: Checkpoint, new_ids: np.ndarray, statistics: GradientStatistics) -> None:
    before = token_nats(tiny.model, new_ids)
    token_nats(tiny.model, new_ids, dynamic=DynamicSettings(learning_rate=0.01), statistics=statistics)
    np.testing.assert_array_equal(token_nats(tiny.model, new_ids), before)
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_both_kinds_of_memory_help_on_text_that_repeats_itself(
    tiny: Checkpoint, new_ids: np.ndarray, statistics: GradientStatistics
) -> None:
    static = token_nats(tiny.model, new_ids).mean()
    cache = tune_cache(tiny.model, new_ids, windows=(100,))
    dynamic = tune_dynamic(tiny.model, new_ids, statistics, segment=40)
    with_cache = token_nats(tiny.model, new_ids, cache=cache).mean()
    with_both = token_nats(tiny.model, new_ids, cache=cache, dynamic=dynamic, statistics=statistics).mean()
    assert cache.share > 0
    assert with_cache < 0.9 * static
    assert with_both < with_cache


def test_a_cache_that_never_helps_is_tuned_away(tiny: Checkpoint) -> None:
    ids = np.arange(40, 140)  # no token comes twice
    assert tune_cache(tiny.model, ids, windows=(50,)).share == 0
