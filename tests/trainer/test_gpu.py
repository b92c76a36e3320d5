"""On a GPU, training does what it does on a processor. Only where there is one: no part of it can be seen elsewhere."""

import pytest
import torch
from torch import Tensor

from core.models import State, build_model, detach_state
from core.models.recurrence import lstm_layer
from trainer.graphs import Graph
from trainer.loss import HAS_TRITON, cross_entropy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

T, B, V = 12, 6, 61
LOOSE = {"rtol": 2e-2, "atol": 2e-3}  # products in TF32


def _close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one.float().cpu(), other.float().cpu(), **LOOSE)


def test_a_layer_computes_the_same() -> None:
    torch.manual_seed(0)
    width, inputs = 32, torch.randn(T, B, 16)
    state, mask = (torch.randn(B, width), torch.randn(B, width)), torch.randn(T, B, width)
    weights = [torch.randn(4 * width, 16) * 0.1, torch.randn(4 * width, width) * 0.1, torch.randn(4 * width) * 0.1]
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 2] = resets[3, 1] = resets[T - 1, 0] = True
    found = []
    for device in ("cpu", "cuda"):
        leaves = [x.clone().to(device).requires_grad_() for x in (inputs, *weights)]
        results = lstm_layer(leaves[0], *(x.to(device) for x in state), resets, *leaves[1:])
        (results[0] * mask.to(device)).sum().backward()
        found.append([*results, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        _close(one, other)


@pytest.mark.skipif(not HAS_TRITON, reason="there is no Triton")
def test_the_loss_is_the_same_and_leaves_out_what_is_no_target() -> None:
    torch.manual_seed(0)
    tensors = torch.randn(40, 24), torch.randn(V, 24), torch.randn(V)
    targets = torch.randint(0, V, (40,))
    found = []
    for device, count in (("cpu", 30), ("cuda", 40)):
        leaves = [x.clone().to(device).requires_grad_() for x in tensors]
        hidden, wanted = leaves[0][:count], torch.where(torch.arange(40) < 30, targets, -1)[:count].to(device)
        loss = cross_entropy(hidden, leaves[1], leaves[2], wanted)
        loss.backward()
        found.append([loss, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        _close(one, other)


@pytest.mark.parametrize("architecture", ["awd_lstm", "lstm", "mogrifier", "transformer"])
def test_a_replayed_step_is_the_step_itself(architecture: str) -> None:
    """The losses, states and gradients of eight windows, streams beginning at the first step of some of them."""
    if not HAS_TRITON:
        pytest.skip("nothing is recorded without Triton")
    windows = torch.randint(2, V, (8, T, B), generator=torch.Generator().manual_seed(0))
    windows[2, 0, 3] = windows[6, 0, 1] = windows[6, 0, 5] = 1  # document_id
    found: list[list[Tensor]] = []
    for kind in (None, "recorded"):
        torch.manual_seed(0)
        model = build_model(architecture, {"vocab_size": V, "document_id": 1, "embedding_size": 32, "hidden_size": 48})
        model.to("cuda").eval()
        for module in model.modules():
            if isinstance(module, torch.nn.LSTM):
                module.train().dropout = 0.0  # cuDNN has no gradients else

        def step(
            ids: Tensor, targets: Tensor, state: State, model: torch.nn.Module = model
        ) -> tuple[tuple[Tensor], State]:
            for parameter in model.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.zero_()
            hidden, state = model.hidden(ids, state)
            wanted = targets.to("cuda").flatten()
            loss = cross_entropy(hidden.output.flatten(0, 1), model.output_weight, model.output_bias, wanted)
            loss.backward()
            return (loss.detach(),), detach_state(state)

        graph, state, results = Graph(step, torch.device("cuda")), model.init_state(B), []
        for ids in windows:
            (loss,), state = graph(kind, ids, ids.roll(1, 0), state)
            results += [loss, *(x.clone() for x in state), *(x.grad.clone() for x in model.parameters())]
        found.append(results)
    for one, other in zip(*found, strict=True):
        _close(one, other)
