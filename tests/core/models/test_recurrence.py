"""Our LSTM layer is torch's LSTM layer, with float32 cells and resets."""

import torch
from torch import Tensor, nn

from core.models.recurrence import library_layer, lstm_layer

T, B, E, H = 7, 3, 5, 4


def _weights(layer: nn.LSTM) -> list[Tensor]:
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    return [x.detach().clone().requires_grad_() for x in (layer.weight_ih_l0, layer.weight_hh_l0, bias)]


def test_outputs_and_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(E, H)
    weights = _weights(layer)
    hidden, cell, mask = torch.randn(B, H), torch.randn(B, H), torch.randn(T, B, H)
    theirs_in, ours_in = (
        torch.randn(T, B, E, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab"
    )
    theirs, (_, their_cell) = layer(theirs_in, (hidden[None], cell[None]))
    ours, our_hidden, our_cell = lstm_layer(ours_in, hidden, cell, None, *weights)
    (theirs * mask).sum().backward()
    (ours * mask).sum().backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_hidden, theirs[-1])
    torch.testing.assert_close(our_cell, their_cell[0])
    torch.testing.assert_close(ours_in.grad, theirs_in.grad)
    torch.testing.assert_close(weights[0].grad, layer.weight_ih_l0.grad)
    torch.testing.assert_close(weights[1].grad, layer.weight_hh_l0.grad)
    torch.testing.assert_close(weights[2].grad, layer.bias_ih_l0.grad)


def test_a_reset_lane_goes_on_as_if_it_began_there() -> None:
    torch.manual_seed(0)
    weights = _weights(nn.LSTM(E, H))
    inputs, hidden, cell = torch.randn(T, B, E), torch.randn(B, H), torch.randn(B, H)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[3, 1] = True
    outputs, _, _ = lstm_layer(inputs, hidden, cell, resets, *weights)
    whole, _, _ = lstm_layer(inputs, hidden, cell, None, *weights)
    fresh, _, _ = lstm_layer(inputs[3:, 1:2], torch.zeros(1, H), torch.zeros(1, H), None, *weights)
    torch.testing.assert_close(outputs[3:, 1:2], fresh)
    torch.testing.assert_close(outputs[:, [0, 2]], whole[:, [0, 2]])
    torch.testing.assert_close(outputs[:3, 1], whole[:3, 1])


def test_no_gradient_crosses_a_reset() -> None:
    torch.manual_seed(0)
    weights = _weights(nn.LSTM(E, H))
    inputs = torch.randn(T, B, E, requires_grad=True)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[3, 1] = True
    outputs, _, _ = lstm_layer(inputs, torch.zeros(B, H), torch.zeros(B, H), resets, *weights)
    outputs[5].sum().backward()
    assert inputs.grad is not None
    assert not inputs.grad[:3, 1].any()
    assert inputs.grad[3:6, 1].any(dim=1).all()
    assert inputs.grad[:6, 0].any(dim=1).all()


def test_gradients_with_resets_match_a_lane_cut_in_two() -> None:
    torch.manual_seed(0)
    whole, parts = (_weights(nn.LSTM(E, H)) for _ in "ab")
    for ours, theirs in zip(whole, parts, strict=True):
        theirs.data = ours.data.clone()
    inputs, zero = torch.randn(T, 1, E), torch.zeros(1, H)
    resets = torch.zeros(T, 1, dtype=torch.bool)
    resets[4, 0] = True
    lstm_layer(inputs, zero, zero, resets, *whole)[0].square().sum().backward()
    for part in (inputs[:4], inputs[4:]):
        lstm_layer(part, zero, zero, None, *parts)[0].square().sum().backward()
    for ours, theirs in zip(whole, parts, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_cells_count_beyond_256_under_bfloat16() -> None:
    """With i, f, g and o near one the cell grows by one a step; a bfloat16 cell would stop at 256."""
    weight_ih, weight_hh, bias = torch.zeros(4, 1), torch.zeros(4, 1), torch.full((4,), 20.0)
    inputs, zero = torch.zeros(400, 1, 1), torch.zeros(1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _, cell = lstm_layer(inputs, zero, zero, None, weight_ih, weight_hh, bias)
    assert outputs.dtype == torch.bfloat16
    assert cell.dtype == torch.float32
    assert cell.item() == 400.0


def test_the_layer_of_the_library_does_the_same() -> None:
    torch.manual_seed(0)
    ours, theirs = (_weights(nn.LSTM(E, H)) for _ in "ab")
    for our, their in zip(ours, theirs, strict=True):
        their.data = our.data.clone()
    hidden, cell, mask = torch.randn(B, H), torch.randn(B, H), torch.randn(T, B, H)
    inputs = torch.randn(T, B, E)
    our_inputs, their_inputs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 2] = resets[3, 1] = resets[6, 0] = True
    our = lstm_layer(our_inputs, hidden, cell, resets, *ours)
    their = library_layer(their_inputs, hidden, cell, resets, *theirs, torch.float32)
    for one, other in zip(our, their, strict=True):
        torch.testing.assert_close(one, other)
    (our[0] * mask).sum().backward()
    (their[0] * mask).sum().backward()
    for one, other in zip((our_inputs, *ours), (their_inputs, *theirs), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
