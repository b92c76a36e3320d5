"""Every kernel that could run a step, and every way to run a whole one: what `docs/decoder.md` chose from.

The project does not use ONNX Runtime and OpenVINO; they are measured where they can be imported:

    pip install --target FOLDER onnx onnxruntime openvino
    PYTHONPATH=FOLDER python -m tests.benchmarks.kernels

`torch.compile` needs a C++ compiler. The products have the sizes of the shipped model: 768 -> 3,072, 1,280 -> 2,048 and
512 -> 8,192; whole steps run the checkpoint itself.
"""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.decoder import Decoder
from core.models import RecurrentWeights
from core.products import Precision

from .decode import rate
from .table import heading, load, parser, table

SHAPES = ((3072, 768), (2048, 1280), (8192, 512))  # (N, K)
ROWS = (1, 16, 64, 256)
Kernel = Callable[[Tensor, int], Callable[[], object] | None]  # weight (N, K) float32, rows -> the product


def eager_float32(weight: Tensor, rows: int) -> Callable[[], object]:
    inputs = torch.randn(rows, weight.shape[1])
    return lambda: torch.nn.functional.linear(inputs, weight)


def packed(dtype: torch.dtype) -> Kernel:
    def build(weight: Tensor, rows: int) -> Callable[[], object]:
        inputs = torch.randn(rows, weight.shape[1]).to(dtype)
        weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), rows)
        return lambda: torch.ops.mkldnn._linear_pointwise(inputs, weight, None, "none", [], "")

    return build


def compiled_float32(weight: Tensor, rows: int) -> Callable[[], object] | None:
    if not shutil.which("g++"):
        return None
    inputs = torch.randn(rows, weight.shape[1])
    linear = torch.compile(torch.nn.functional.linear)
    return lambda: linear(inputs, weight)


def dynamic_int8(weight: Tensor, rows: int) -> Callable[[], object]:
    inputs = torch.randn(rows, weight.shape[1])
    outputs = len(weight)
    scales, zeros = torch.full((outputs,), 0.01), torch.zeros(outputs, dtype=torch.int64)
    quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    weight = torch.ops.quantized.linear_prepack(quantised, None)
    return lambda: torch.ops.quantized.linear_dynamic(inputs, weight)


def int_mm(weight: Tensor, rows: int) -> Callable[[], object]:
    inputs = torch.randint(-127, 128, (rows, weight.shape[1]), dtype=torch.int8)
    transposed = int8_of(weight).t()
    return lambda: torch._int_mm(inputs, transposed)


def qlinear(weight: Tensor, rows: int) -> Callable[[], object]:
    inputs = torch.randint(0, 255, (rows, weight.shape[1]), dtype=torch.uint8)
    weight = torch.ops.onednn.qlinear_prepack(int8_of(weight), None)
    scales, zeros = torch.ones(weight.shape[1]), torch.zeros(weight.shape[1], dtype=torch.int32)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        inputs, 1.0, 128, weight, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


def onnxruntime_int8(weight: Tensor, rows: int) -> Callable[[], object] | None:
    if not (importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx")):
        return None
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    inputs = np.random.default_rng(0).integers(0, 255, (rows, weight.shape[1]), dtype=np.uint8)
    nodes = [helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])]
    constants = {"w": int8_of(weight).t().contiguous().numpy(), "zero": np.array(128, np.uint8)}
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, list(inputs.shape))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [rows, len(weight)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": inputs})


def openvino_int8(weight: Tensor, rows: int) -> Callable[[], object] | None:
    if not importlib.util.find_spec("openvino"):
        return None
    import openvino
    from openvino import opset13 as ops

    inputs = np.random.default_rng(0).standard_normal((rows, weight.shape[1]), dtype=np.float32)
    parameter = ops.parameter([rows, weight.shape[1]], np.float32)
    integers = ops.convert(ops.constant(int8_of(weight).numpy()), np.float32)
    scaled = ops.multiply(integers, ops.constant(np.full((len(weight), 1), 0.01, np.float32)))
    model = openvino.Model([ops.matmul(parameter, scaled, False, True)], [parameter])
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": weight.shape[1],
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([inputs], share_inputs=True, share_outputs=True)


def int8_of(weight: Tensor) -> Tensor:
    return (weight / weight.abs().max() * 127).round().to(torch.int8)


KERNELS: dict[str, Kernel] = {
    "float32 eager": eager_float32,
    "float32 packed (oneDNN)": packed(torch.float32),
    "float32 torch.compile": compiled_float32,
    "bfloat16 packed (oneDNN)": packed(torch.bfloat16),
    "int8 quantized.linear_dynamic": dynamic_int8,
    "int8 torch._int_mm": int_mm,
    "int8 onednn.qlinear_pointwise": qlinear,
    "int8 ONNX Runtime MatMulInteger": onnxruntime_int8,
    "int8 OpenVINO, dynamic by row": openvino_int8,
}


class Step(nn.Module):
    """The whole step as one would write it for `torch.compile`: the gate table, and nothing else folded or packed."""

    def __init__(self, weights: RecurrentWeights, dtype: torch.dtype) -> None:
        super().__init__()
        first, *others = weights.layers
        self.table = nn.Embedding.from_pretrained(weights.embedding.float() @ first.weight_ih.float().t() + first.bias)
        joint = [first.weight_hh, *(torch.cat((layer.weight_ih, layer.weight_hh), 1) for layer in others)]
        self.products = nn.ModuleList(_linear(weight, None, dtype) for weight in joint)
        self.biases = [torch.zeros(()), *(layer.bias for layer in others)]
        self.output = _linear(weights.output_weight, weights.output_bias, dtype)

    def forward(self, ids: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, V) and the state after ids (B,): hidden and cell of each layer."""
        addend, below, after = self.table(ids), [], []
        for number, product in enumerate(self.products):
            hidden, cell = state[2 * number : 2 * number + 2]
            sums = product(torch.cat([*below, hidden], 1).to(product.weight.dtype)).float()
            i, f, g, o = (sums + addend + self.biases[number]).chunk(4, 1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            below, addend = [o.sigmoid() * cell.tanh()], torch.zeros(())
            after += [below[0], cell]
        return self.output(below[0].to(self.output.weight.dtype)).float(), after


def _linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=dtype)
    linear.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return linear


def whole_steps(weights: RecurrentWeights) -> Iterator[tuple[str, Callable[[int], Callable[[], object]]]]:
    """Ways to run a step, each given a number of rows."""

    def plain(dtype: torch.dtype, is_compiled: bool) -> Callable[[int], Callable[[], object]]:
        def build(rows: int) -> Callable[[], object]:
            step: Any = Step(weights, dtype).eval()
            if is_compiled:
                step = torch.compile(step, dynamic=False, options={"freezing": True})
            widths = [layer.weight_hh.shape[1] for layer in weights.layers for _ in range(2)]
            ids, state = torch.arange(rows), [torch.zeros(rows, width) for width in widths]
            return lambda: step(ids, state)

        return build

    def decoder(precision: Precision) -> Callable[[int], Callable[[], object]]:
        def build(rows: int) -> Callable[[], object]:
            decoder = Decoder(weights, precision=precision, slots=rows, max_rows=rows)
            ids = list(range(rows))
            return lambda: decoder.step(ids, ids)

        return build

    yield "float32 eager", plain(torch.float32, False)
    if shutil.which("g++"):
        yield "float32 torch.compile, frozen", plain(torch.float32, True)
        yield "bfloat16 torch.compile, frozen", plain(torch.bfloat16, True)
    for precision in ("float32", "bfloat16", "int8"):
        yield f"{precision} Decoder", decoder(precision)


def named(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


@torch.no_grad()  # not inference mode: torch.compile's freezing knows only this
def main() -> None:
    chosen = parser(__doc__).parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    weights = [torch.randn(shape) * 0.05 for shape in SHAPES]
    size = sum(weight.numel() for weight in weights)
    found = []
    for name, build in KERNELS.items():
        row: list[str | float] = [name]
        for rows in ROWS:
            products = [build(weight, rows) for weight in weights]
            if None in products:
                break

            def step(products: list[Any] = products) -> None:
                for product in products:
                    product()

            steps_per_s = rate(step, 1)
            row += [1e6 / steps_per_s, f"{2e-9 * size * rows * steps_per_s:,.0f}"]
        else:
            found.append(row)
    heading(f"kernels: {size / 1e6:.1f} M weights a step, {chosen.threads} threads")
    head = [text for rows in ROWS for text in (f"{named(rows)}, us", "GOP/s")]
    table(("", *head), found)
    checkpoint = load(chosen.checkpoint)
    steps = [
        [name, *(1e6 / rate(build(rows), 1) for rows in ROWS)]
        for name, build in whole_steps(checkpoint.model.recurrent_weights())
    ]
    heading(f"whole steps: {checkpoint.name}, {chosen.threads} threads, microseconds, no sampling")
    table(("", *map(named, ROWS)), steps)


if __name__ == "__main__":
    main()
