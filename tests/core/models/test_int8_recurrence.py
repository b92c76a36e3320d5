"""The layer with products in int8 is the layer with products in float32, as nearly as int8 can be."""

import pytest
import torch
from torch import Tensor

from core.models.int8_recurrence import int8_lstm_layer
from core.models.recurrence import lstm_layer

T, B, E, H = 12, 6, 24, 32


def _leaves() -> list[Tensor]:
    """Inputs, and the weights of a layer that remembers."""
    torch.manual_seed(0)
    sizes = (T, B, E), (4 * H, E), (4 * H, H), (4 * H,)
    factors = 0.5, 0.5, 0.3, 0.1
    return [(factor * torch.randn(size)).requires_grad_() for factor, size in zip(factors, sizes, strict=True)]


def _resets() -> Tensor:
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 2] = resets[5, 1] = True
    return resets


def _error(ours: Tensor, theirs: Tensor) -> float:
    """The length of the difference in lengths of what is right."""
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


def test_outputs_and_gradients_are_within_a_few_hundredths_of_exact_ones() -> None:
    ours, theirs = _leaves(), _leaves()
    torch.manual_seed(1)
    hidden, cell, mask = torch.rand(B, H) - 0.5, torch.randn(B, H), torch.randn(T, B, H)
    mask *= torch.rand(T, B, 1) ** 4  # gradients of one stream and step are a hundred times those of another
    our = int8_lstm_layer(ours[0], hidden, cell, _resets(), *ours[1:])
    their = lstm_layer(theirs[0], hidden, cell, _resets(), *theirs[1:])
    assert max(_error(one, other) for one, other in zip(our, their, strict=True)) < 0.03
    (our[0] * mask).sum().backward()
    (their[0] * mask).sum().backward()
    assert all(x.grad is not None for x in ours + theirs)
    errors = [_error(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True)]  # type: ignore[arg-type]
    assert max(errors) < 0.06
    assert min(errors) > 0  # or it would not be int8


def test_nothing_crosses_a_reset() -> None:
    inputs, *weights = _leaves()
    zero = torch.zeros(B, H)
    outputs, _, _ = int8_lstm_layer(inputs, zero, zero, _resets(), *weights)
    again, _, _ = int8_lstm_layer(inputs[5:], zero, zero, None, *weights)
    assert _error(outputs[5:, 1], again[:, 1]) < 0.03
    outputs[7].sum().backward()
    assert inputs.grad is not None
    assert not inputs.grad[:5, 1].any()
    assert inputs.grad[5:8, 1].any(dim=1).all()
    assert inputs.grad[:8, 0].any(dim=1).all()


@pytest.mark.parametrize("place", range(4))
def test_what_is_not_a_number_stays_none(place: int) -> None:
    leaves = _leaves()
    with torch.no_grad():
        leaves[place].view(-1)[3] = torch.nan
    zero = torch.zeros(B, H)
    outputs, _, _ = int8_lstm_layer(leaves[0], zero, zero, None, *leaves[1:])
    outputs.sum().backward()
    assert outputs.isnan().any()
    assert all(x.grad is not None and x.grad.isnan().any() for x in leaves)


def test_zeros_are_multiplied_too() -> None:
    leaves = [torch.zeros_like(x).requires_grad_() for x in _leaves()]
    zero = torch.zeros(B, H)
    outputs, hidden, cell = int8_lstm_layer(leaves[0], zero, zero, None, *leaves[1:])
    outputs.sum().backward()
    assert not outputs.any()
    assert not hidden.any()
    assert not cell.any()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves)


def test_outputs_are_of_the_dtype_of_autocast_and_cells_of_float32() -> None:
    leaves, zero = _leaves(), torch.zeros(B, H)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, hidden, cell = int8_lstm_layer(leaves[0], zero, zero, None, *leaves[1:])
    outputs.sum().backward()
    assert (outputs.dtype, hidden.dtype, cell.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in leaves)
