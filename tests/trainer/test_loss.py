"""The chunked loss is the textbook's."""

import math

import torch
from torch.nn import functional

from trainer.loss import cross_entropy


def test_loss_and_gradients_are_those_of_torch_over_several_chunks() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(600, 8), torch.randn(50, 8), torch.randn(50)]
    targets = torch.randint(0, 50, (600,))
    ours, theirs = ([x.clone().requires_grad_() for x in tensors] for _ in "ab")
    loss = 0.25 * cross_entropy(*ours, targets)
    expected = 0.25 * functional.cross_entropy(theirs[0] @ theirs[1].t() + theirs[2], targets, reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    loss = cross_entropy(torch.zeros(3, 4), torch.zeros(16, 4), torch.zeros(16), torch.tensor([0, 5, 15]))
    assert math.isclose(loss.item(), 3 * math.log(16), rel_tol=1e-6)


def test_a_hopeless_prediction_costs_much_but_not_infinity() -> None:
    loss = cross_entropy(torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([0.0, 500.0]), torch.tensor([0]))
    assert loss.item() == 500.0


def test_a_hopeless_prediction_in_training_has_a_finite_loss_and_gradient() -> None:
    bias = torch.tensor([0.0, 500.0], requires_grad=True)
    loss = cross_entropy(torch.zeros(1, 1), torch.zeros(2, 1), bias, torch.tensor([0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert 87 < loss.item() < 88
    assert bias.grad is not None
    assert bias.grad.tolist() == [-1.0, 1.0]


def test_a_hopeless_prediction_is_measured_in_full_where_nothing_learns() -> None:
    bias = torch.tensor([0.0, 500.0], requires_grad=True)
    with torch.no_grad():
        assert cross_entropy(torch.zeros(1, 1), torch.zeros(2, 1), bias, torch.tensor([0])).item() == 500.0
