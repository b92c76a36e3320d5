"""The products of one step, alone, by every kernel that could run them: what `docs/decoder.md` chose from.

ONNX Runtime and OpenVINO are measured where they are installed (pip install onnx onnxruntime openvino); the project
does not use them. Sizes are those of the shipped model: 768 -> 3,072, 1,280 -> 2,048 and 512 -> 8,192.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .decode import rate
from .table import heading, parser, table

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


def compiled_float32(weight: Tensor, rows: int) -> Callable[[], object]:
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


@torch.inference_mode()
def main() -> None:
    chosen = parser(__doc__).parse_args()
    torch.set_num_threads(chosen.threads)
    weights = [torch.randn(shape) * 0.05 for shape in SHAPES]
    size = sum(weight.numel() for weight in weights)
    found = []
    for name, build in KERNELS.items():
        if "compile" in name and "CXX" not in os.environ:
            continue  # needs a compiler on the user's machine
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
    head = [text for rows in ROWS for text in (f"{rows} rows, us", "GOP/s")]
    table(("", *head), found)


if __name__ == "__main__":
    main()
