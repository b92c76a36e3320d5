"""The loss with products in int8 is the textbook's, and its gradient is so in the mean."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainer.int8_loss import int8_cross_entropy

N, H, V = 300, 16, 200


def _leaves() -> list[Tensor]:
    torch.manual_seed(0)
    bias = torch.linspace(0, -9, V)  # half of the words are rarer than int8 can say
    return [
        (2 * torch.rand(N, H) - 1).requires_grad_(),
        torch.randn(V, H).mul(0.3).requires_grad_(),
        bias.requires_grad_(),
    ]


TARGETS = torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(1))


def test_the_loss_is_that_of_torch_over_several_chunks() -> None:
    hidden, weight, bias = _leaves()
    expected = functional.cross_entropy(hidden @ weight.t() + bias, TARGETS, reduction="sum")
    assert math.isclose(int8_cross_entropy(hidden, weight, bias, TARGETS).item(), expected.item(), rel_tol=1e-3)


def test_the_gradient_is_right_in_the_mean_of_rare_words_too() -> None:
    ours, theirs = _leaves(), _leaves()
    functional.cross_entropy(theirs[0] @ theirs[1].t() + theirs[2], TARGETS, reduction="sum").mul(0.25).backward()
    draws = 200
    for _ in range(draws):
        int8_cross_entropy(*ours, TARGETS).mul(0.25 / draws).backward()
    rare = slice(V // 2, None)
    for our, their in zip(ours, theirs, strict=True):
        assert our.grad is not None
        assert their.grad is not None
        assert (our.grad - their.grad).norm() < 0.02 * their.grad.norm()
        if len(our) == V:
            pushed, right = our.grad[rare].sum(), their.grad[rare].sum()
            assert abs(pushed - right) < 0.02 * abs(right)


def test_a_certain_prediction_teaches_nothing() -> None:
    bias = torch.zeros(V)
    bias[7] = 500.0
    bias.requires_grad_()
    int8_cross_entropy(torch.zeros(N, H), torch.zeros(V, H), bias, torch.full((N,), 7)).backward()
    assert bias.grad is not None
    assert not bias.grad.any()


def test_a_hopeless_prediction_has_a_finite_loss_and_gradient() -> None:
    bias = torch.tensor([0.0, 500.0], requires_grad=True)
    loss = int8_cross_entropy(torch.zeros(1, 1), torch.zeros(2, 1), bias, torch.tensor([0]))
    loss.backward()
    assert 87 < loss.item() < 88
    assert bias.grad is not None
    assert bias.grad.tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("place", range(3))
def test_what_is_not_a_number_stays_none(place: int) -> None:
    leaves = _leaves()
    with torch.no_grad():
        leaves[place].view(-1)[3] = torch.nan
    loss = int8_cross_entropy(*leaves, TARGETS)
    loss.backward()
    assert loss.isnan()
    assert all(x.grad is not None and x.grad.isnan().any() for x in leaves)
