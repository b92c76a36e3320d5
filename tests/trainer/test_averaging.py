"""The mean of the weights begins when validation stalls, and stands in for the weights only while it is asked to."""

import torch
from torch import nn

from trainer.averaging import TriggeredAverage


def _set(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_averaging_begins_when_validation_is_worse_than_some_checks_ago() -> None:
    average = TriggeredAverage(nn.Linear(1, 1), patience=2)
    for loss, is_on in [(3.0, False), (2.0, False), (2.5, False), (2.4, False), (2.3, True)]:
        average.observe(loss)
        assert average.is_on == is_on


def test_the_mean_is_over_the_steps_since_the_trigger_and_swaps_back() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = TriggeredAverage(model, patience=1)
    _set(model, 100.0)
    average.update()
    for loss in (1.0, 1.0, 2.0):
        _set(model, 1.0)
        average.observe(loss)
    for value in (2.0, 6.0):
        _set(model, value)
        average.update()
    with average.in_place():
        assert model.weight.item() == 3.0
    assert model.weight.item() == 6.0


def test_an_average_that_was_never_triggered_leaves_the_weights_alone() -> None:
    model = nn.Linear(1, 1, bias=False)
    _set(model, 5.0)
    with TriggeredAverage(model).in_place():
        assert model.weight.item() == 5.0
