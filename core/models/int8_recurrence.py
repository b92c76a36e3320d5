"""One LSTM layer over a window of text with its matrix products in int8, forward and back.

Where a processor multiplies bytes (AVX-512 VNNI), such a product takes half the time of one in bfloat16. Every factor
is rounded to at most 127 steps either way: the inputs of a window with one scale for all, weights with one for each
gate, the gates' gradients with one for each stream and step. Sums are exact; cells, activations and the weights that
are trained stay in float32.
"""

from typing import Any

import torch
from torch import Tensor

from .recurrence import cell_step, cell_step_backward, double_g, output_dtype, reset_steps

FULL = 127  # the largest int8
_SMALLEST = torch.finfo(torch.float32).tiny  # zeros need a scale too


def int8_lstm_layer(
    inputs: Tensor,
    hidden: Tensor,
    cell: Tensor,
    resets: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `lstm_layer`, on a CPU. Autocast decides on the dtype of the outputs alone."""
    dtype = output_dtype(inputs, weight_hh)
    outputs, cells = _Int8Window.apply(inputs, hidden, cell, resets, weight_ih, weight_hh, bias, dtype)  # type: ignore[no-untyped-call]
    return outputs, outputs[-1].detach(), cells


def quantise(values: Tensor, dim: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The values as int8, and what a step of those is worth: 127 are the largest along `dim`, or NaN where one is."""
    scale = values.abs().amax(dim, keepdim=True).div_(FULL).clamp_min_(_SMALLEST)
    return (values / scale).round_().to(torch.int8), scale


class _Int8Window(torch.autograd.Function):
    """The whole window as one node of the graph.

    Inputs and hidden states lie side by side, so that a step is one product either way: [x, h] (B, E + H) by
    [W_ih, W_hh] (4H, E + H), x in steps of `input_scale`, h in steps of 1/127, and the weights in proportion. A gate's
    weight scale goes into its gradient, so that the way back uses the same int8 weights.
    """

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
        steps, lanes, size = inputs.shape
        width = weight_hh.shape[1]
        factors = torch.empty(steps, lanes, size + width, dtype=torch.int8)
        factors[:, :, :size], input_scale = quantise(inputs.float(), (0, 1, 2))
        weight, weight_scale = quantise(torch.cat([weight_ih * input_scale[0], weight_hh / FULL], 1), 1)
        gate_scale, gate_bias = double_g(weight_scale).t(), double_g(bias)  # (1, 4H), (4H,)
        active = torch.empty(steps, lanes, 4 * width)
        cells = torch.empty(steps + 1, lanes, width)
        squashed = torch.empty(steps, lanes, width)  # tanh of the cells
        hiddens = torch.empty(steps, lanes, width, dtype=dtype)
        sums = torch.empty(lanes, 4 * width, dtype=torch.int32)
        previous, last, cells[0] = hidden.float(), torch.empty(lanes, width), cell
        fresh = reset_steps(resets)
        for t in range(steps):
            old = cells[t]
            if t in fresh:
                keep = ~resets[t].unsqueeze(1)  # type: ignore[index]
                previous, old = previous * keep, old * keep
            factors[t, :, size:] = (previous * FULL).round_()
            torch._int_mm(factors[t], weight.t(), out=sums)
            torch.addcmul(gate_bias, active[t].copy_(sums), gate_scale, out=active[t])
            cell_step(active[t], old, cell=cells[t + 1], squashed=squashed[t], hidden=last)
            hiddens[t] = previous = last
        ctx.save_for_backward(factors, input_scale, weight, weight_scale, cells, active, squashed, resets)
        ctx.fresh, ctx.dtypes = fresh, (inputs.dtype, weight_ih.dtype)
        last_cell = cells[-1].clone()
        ctx.mark_non_differentiable(last_cell)
        return hiddens, last_cell

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor, _grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        factors, input_scale, weight, weight_scale, cells, active, squashed, resets = ctx.saved_tensors
        steps, lanes, width = squashed.shape
        size = factors.shape[2] - width
        gate_scale, old = weight_scale.t(), cells[:-1]
        if ctx.fresh:
            old = old * ~resets.unsqueeze(2)
        grad_gates = torch.empty(steps, lanes, 4 * width, dtype=torch.int8)
        grad_scale = torch.empty(steps, lanes, 1)
        grad_inputs = torch.empty(steps, lanes, size)
        grad_bias = torch.zeros(4 * width)
        step_grad, grad_cell = torch.empty(lanes, 4 * width), torch.zeros(lanes, width)
        sums, grad_factors = torch.empty(lanes, size + width, dtype=torch.int32), torch.zeros(lanes, size + width)
        for t in reversed(range(steps)):
            grad_hidden = grad_factors[:, size:] * FULL + grad_outputs[t]
            cell_step_backward(grad_hidden, grad_cell, active[t], old[t], squashed[t], grad_gates=step_grad)
            grad_bias += step_grad.sum(0)
            grad_gates[t], grad_scale[t] = quantise(step_grad.mul_(gate_scale), 1)
            torch._int_mm(grad_gates[t], weight, out=sums)
            torch.mul(grad_factors.copy_(sums), grad_scale[t], out=grad_factors)
            torch.div(grad_factors[:, :size], input_scale[0], out=grad_inputs[t])
            if t in ctx.fresh:
                kept = ~resets[t].unsqueeze(1)
                grad_cell, grad_factors = grad_cell * kept, grad_factors * kept
        # Each row of the factors takes the scale of its gradient, so that the sum over rows is one of whole numbers.
        scaled, scale = quantise(factors.flatten(0, 1) * grad_scale.flatten(0, 1), 0)
        grad_weight = torch._int_mm(grad_gates.flatten(0, 1).t(), scaled).float().mul_(scale).div_(weight_scale)
        inputs_dtype, weight_dtype = ctx.dtypes
        grad_weight_ih = (grad_weight[:, :size] * input_scale[0]).to(weight_dtype)
        grad_weight_hh = (grad_weight[:, size:] / FULL).to(weight_dtype)
        return grad_inputs.to(inputs_dtype), None, None, None, grad_weight_ih, grad_weight_hh, grad_bias, None
