"""One LSTM layer over a window of text, with its backward pass written out.

Equations as in torch.nn.LSTM (gate order i, f, g, o). Three things a stock layer does not give: cells stay in float32
while the matrix products run in bfloat16 (above 256 a bfloat16 cell can no longer count), the state of single lanes can
be zeroed in the middle of a window, and everything that does not depend on the previous step is done for all steps at
once: one product for all inputs, one for each weight's gradient. On a GPU it is cuDNN's layer all the same: there the
time goes into starting hundreds of small kernels, which cuDNN does in one call.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def lstm_layer(
    inputs: Tensor,
    hidden: Tensor,
    cell: Tensor,
    resets: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one layer over a window.

    inputs (T, B, E), hidden and cell (B, H), resets (T, B) bool or None: where it is true, the state is zeroed before
    that step. They may lie on the CPU whatever the rest does: to look at them on a GPU is to wait for it. Returns the
    outputs (T, B, H), the last hidden state and the last cell (B, H, float32). Under autocast the products run in
    autocast's dtype, else in the dtype of the weights. No gradient flows into the state that came in: truncated
    back-propagation cuts there.
    """
    device, dtype = inputs.device.type, output_dtype(inputs, weight_hh)
    if device == "cuda":
        with torch.autocast(device, enabled=False):
            return library_layer(inputs, hidden, cell, resets, weight_ih, weight_hh, bias, dtype)
    outputs, cells = _LSTMWindow.apply(inputs, hidden, cell, resets, weight_ih, weight_hh, bias, dtype)  # type: ignore[no-untyped-call]
    return outputs, outputs[-1].detach(), cells


def output_dtype(inputs: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype of a layer's outputs: autocast's, else that of its weights."""
    device = inputs.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def library_layer(
    inputs: Tensor,
    hidden: Tensor,
    cell: Tensor,
    resets: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `lstm_layer`, by torch's own: one call for each stretch without resets. Cells are of `dtype` in between."""
    parts = weight_ih, weight_hh, bias, torch.zeros_like(bias)
    flat = torch.cat([part.flatten() for part in parts]).to(dtype)  # side by side, as cuDNN wants them
    sizes = [part.numel() for part in parts]
    weights = [view.view_as(part) for view, part in zip(torch.split(flat, sizes), parts, strict=True)]
    inputs, hidden, cell = inputs.to(dtype), hidden.to(dtype).unsqueeze(0), cell.to(dtype).unsqueeze(0)
    fresh = reset_steps(resets)
    outputs = []
    for start, end in pairwise(sorted({0, *fresh, len(inputs)})):
        if start in fresh:
            keep = ~resets[start].to(inputs.device, non_blocking=True).unsqueeze(1)  # type: ignore[index]
            hidden, cell = hidden * keep, cell * keep
        state, trains = (hidden, cell), torch.is_grad_enabled()
        output, hidden, cell = torch._VF.lstm(inputs[start:end], state, weights, True, 1, 0.0, trains, False, False)
        outputs.append(output)
    whole = torch.cat(outputs)
    return whole, whole[-1].detach(), cell[0].detach().float()


class _LSTMWindow(torch.autograd.Function):
    """The whole window as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,
        cell: Tensor,
        resets: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        steps, lanes, _ = inputs.shape
        width = weight_hh.shape[1]
        flat_inputs = inputs.to(dtype).flatten(0, 1)  # (T * B, E)
        recurrent = double_g(weight_hh).to(dtype).t()
        gates = torch.addmm(double_g(bias).to(dtype), flat_inputs, double_g(weight_ih).to(dtype).t())
        gates = gates.view(steps, lanes, 4 * width)
        active = inputs.new_empty(steps, lanes, 4 * width, dtype=torch.float32)
        cells = inputs.new_empty(steps + 1, lanes, width, dtype=torch.float32)
        squashed = inputs.new_empty(steps, lanes, width, dtype=torch.float32)  # tanh of the cells
        hiddens = inputs.new_empty(steps + 1, lanes, width, dtype=dtype)
        hiddens[0], cells[0] = hidden, cell
        fresh = reset_steps(resets)
        for t in range(steps):
            previous, old = hiddens[t], cells[t]
            if t in fresh:
                keep = ~resets[t].unsqueeze(1)  # type: ignore[index]
                previous, old = previous * keep, old * keep
            active[t] = gates[t].addmm_(previous, recurrent)
            cell_step(active[t], old, cell=cells[t + 1], squashed=squashed[t], hidden=hiddens[t + 1])
        ctx.save_for_backward(flat_inputs, hiddens, cells, active, squashed, resets, weight_ih, weight_hh)
        ctx.dtype, ctx.fresh, ctx.inputs_dtype = dtype, fresh, inputs.dtype
        last_cell = cells[-1].clone()
        ctx.mark_non_differentiable(last_cell)
        return hiddens[1:], last_cell

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor, _grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        flat_inputs, hiddens, cells, active, squashed, resets, weight_ih, weight_hh = ctx.saved_tensors
        steps, lanes, width = squashed.shape
        recurrent = weight_hh.to(ctx.dtype)
        previous, old = hiddens[:-1], cells[:-1]
        if ctx.fresh:
            keep = ~resets.unsqueeze(2)
            previous, old = previous * keep, old * keep
        grad_gates = torch.empty(steps, lanes, 4 * width, dtype=ctx.dtype, device=active.device)
        step_grad = torch.empty(lanes, 4 * width, device=active.device)
        grad_cell = torch.zeros(lanes, width, device=active.device)
        from_next: Tensor | None = None
        for t in reversed(range(steps)):  # one step at a time, so that what it touches stays in the cache
            grad_hidden = grad_outputs[t].float()
            if from_next is not None:
                grad_hidden = grad_hidden + from_next
            cell_step_backward(grad_hidden, grad_cell, active[t], old[t], squashed[t], grad_gates=step_grad)
            grad_gates[t] = step_grad
            if t == 0:
                break
            from_next = grad_gates[t] @ recurrent
            if t in ctx.fresh:
                kept = ~resets[t].unsqueeze(1)
                grad_cell, from_next = grad_cell * kept, from_next * kept
        flat_gates = grad_gates.flatten(0, 1)  # (T * B, 4H)
        grad_weight_ih = (flat_gates.t() @ flat_inputs).to(weight_ih.dtype)
        grad_weight_hh = (flat_gates.t() @ previous.flatten(0, 1)).to(weight_hh.dtype)
        grad_bias = flat_gates.sum(0).to(weight_hh.dtype)
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = (flat_gates @ weight_ih.to(ctx.dtype)).view(steps, lanes, -1).to(ctx.inputs_dtype)
        return grad_inputs, None, None, None, grad_weight_ih, grad_weight_hh, grad_bias, None


def cell_step(gates: Tensor, old: Tensor, *, cell: Tensor, squashed: Tensor, hidden: Tensor) -> None:
    """One step from the cell before (B, H): write the cell, its tanh, and the hidden state.

    The gates (B, 4H) are summed up, those of g doubled; here they are activated, in place. tanh(x) is computed as
    2 * sigmoid(2x) - 1: on CPU torch's sigmoid is nine times faster than its tanh, and doubling beforehand is exact.
    """
    i, f, g, o = gates.sigmoid_().chunk(4, dim=1)
    g.mul_(2).sub_(1)
    torch.mul(i, g, out=cell).addcmul_(f, old)
    torch.mul(cell, 2, out=squashed).sigmoid_().mul_(2).sub_(1)
    torch.mul(squashed, o, out=hidden)


def cell_step_backward(
    grad_hidden: Tensor, grad_cell: Tensor, active: Tensor, old: Tensor, squashed: Tensor, *, grad_gates: Tensor
) -> None:
    """The gradient of a step: write that of the gates (B, 4H), and turn that of the cell (B, H) into the old one's."""
    i, f, g, o = active.chunk(4, dim=1)
    grad_i, grad_f, grad_g, grad_o = grad_gates.chunk(4, dim=1)
    scratch = grad_hidden * squashed
    aten.sigmoid_backward(scratch, o, grad_input=grad_o)
    torch.mul(grad_hidden, o, out=scratch)
    grad_cell += aten.tanh_backward(scratch, squashed, grad_input=scratch)
    aten.sigmoid_backward(torch.mul(grad_cell, g, out=scratch), i, grad_input=grad_i)
    aten.sigmoid_backward(torch.mul(grad_cell, old, out=scratch), f, grad_input=grad_f)
    aten.tanh_backward(torch.mul(grad_cell, i, out=scratch), g, grad_input=grad_g)
    grad_cell.mul_(f)


def double_g(weight: Tensor) -> Tensor:
    """The rows (4H, ...) with those of the g gate doubled, which is exact: what `cell_step` wants."""
    width = weight.shape[0] // 4
    doubled = weight.detach().clone()
    doubled[2 * width : 3 * width] *= 2
    return doubled


def reset_steps(resets: Tensor | None) -> frozenset[int]:
    """The steps where at least one lane is reset: few, so that most steps pay nothing.

    While a GPU's work is recorded, to be replayed on other windows, the first step alone, whether any is or not.
    """
    if resets is None:
        return frozenset()
    if resets.is_cuda and torch.cuda.is_current_stream_capturing():
        return frozenset({0})
    return frozenset(resets.any(dim=1).nonzero().flatten().tolist())
