"""Tokens per second through the engine, against a stock `nn.LSTM` loop and against what the machine can do at most.

    stock     an eager float32 loop over `nn.LSTM`, one stream, softmax and `torch.multinomial`, no filter
    naive     the same network, fed the whole text again at every step
    stream    reading all int8 weights once a token, from memory: the limit for one stream
    product   the int8 products of a step and nothing else: the limit for a batch

Every round measures everything once; the best round of each counts, so that other work on the machine hurts least.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from core.checkpoint import Checkpoint
from core.decoder import Decoder
from core.engine import Engine, EngineSettings
from core.models import RecurrentWeights
from core.requests import GenerationRequest, SamplingDefaults, Text, sampling_params

from .table import heading, load, parser, table

STREAMS = (1, 4, 16, 64, 256, 1024)
TOKENS = {1: 600, 4: 400, 16: 300, 64: 200, 256: 150, 1024: 60}
BARS = {1: 25, 64: 120, 256: 150}
BUFFER_BYTES = 256 * 2**20  # larger than any cache


class Stock(nn.Module):
    """The textbook loop: what the same weights do without any of the engine's work."""

    def __init__(self, weights: RecurrentWeights) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(weights.embedding.detach().float())
        self.layers = nn.ModuleList()
        for layer in weights.layers:
            lstm = nn.LSTM(layer.weight_ih.shape[1], layer.weight_hh.shape[1])
            lstm.load_state_dict(
                {
                    "weight_ih_l0": layer.weight_ih,
                    "weight_hh_l0": layer.weight_hh,
                    "bias_ih_l0": layer.bias,
                    "bias_hh_l0": torch.zeros_like(layer.bias),
                }
            )
            self.layers.append(lstm)
        self.output = nn.Linear(weights.output_weight.shape[1], len(weights.output_weight))
        self.output.load_state_dict({"weight": weights.output_weight, "bias": weights.output_bias})

    def forward(self, ids: Tensor, states: list[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, list[object]]:
        """Logits (T, B, V) and the states after ids (T, B)."""
        hidden, after = self.embedding(ids), []
        for layer, state in zip(self.layers, states, strict=True):
            hidden, state = layer(hidden, state)
            after.append(state)
        return self.output(hidden), after

    def write(self, count: int, *, is_naive: bool) -> None:
        ids = torch.zeros(1, 1, dtype=torch.long)
        states: list[object] = [None] * len(self.layers)
        for _ in range(count):
            logits, after = self(ids, [None] * len(self.layers) if is_naive else states)
            chosen = torch.multinomial(torch.softmax(logits[-1] / 0.8, -1), 1)
            ids, states = (torch.cat((ids, chosen)), states) if is_naive else (chosen, after)


async def engine_rate(engine: Engine, streams: int) -> float:
    """Tokens per second of `streams` streams at once, from the first request to the last token."""
    count = TOKENS[streams]

    async def read(seed: int) -> int:
        params = sampling_params(SamplingDefaults(), max_tokens=count, seed=seed)
        events = engine.generate(GenerationRequest(prompt="Once upon a time", sampling=params))
        return sum([event.tokens async for event in events if isinstance(event, Text)])

    began = time.perf_counter()
    written = sum(await asyncio.gather(*(read(seed) for seed in range(streams))))
    return written / (time.perf_counter() - began)


def rate(work: Callable[[], object], units: float, least_s: float = 0.3) -> float:
    """Units per second of some work, repeated for a while."""
    work()
    began, runs = time.perf_counter(), 0
    while time.perf_counter() - began < least_s:
        work()
        runs += 1
    return units * runs / (time.perf_counter() - began)


def product_rate(shapes: list[tuple[int, int]], rows: int) -> float:
    """Tokens per second if the int8 products were all there is."""
    work = []
    for outputs, inputs in shapes:
        weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
        activations = torch.randint(0, 255, (rows, inputs), dtype=torch.uint8)
        signed = torch.randint(-127, 128, (rows, inputs), dtype=torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        work.append(
            (weight.t(), signed, activations, packed, torch.ones(outputs), torch.zeros(outputs, dtype=torch.int32))
        )

    def run() -> None:
        for transposed, signed, activations, packed, scales, zeros in work:
            if rows == 1:
                torch._int_mm(signed, transposed)
            else:
                torch.ops.onednn.qlinear_pointwise(
                    activations, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
                )

    return rate(run, rows)


def weight_shapes(decoder: Decoder) -> list[tuple[int, int]]:
    """(N, K) of every product of a step."""
    widths = decoder.widths
    joint = [widths[0], *(a + b for a, b in itertools.pairwise(widths))]
    return [*((4 * h, k) for h, k in zip(widths, joint, strict=True)), (decoder.vocab_size, widths[-1])]


@torch.inference_mode()
def measure_others(checkpoint: Checkpoint, threads: int, batch: int) -> dict[str, float]:
    """One round of everything but the engine."""
    torch.set_num_threads(threads)
    stock = Stock(checkpoint.model.recurrent_weights())
    shapes = weight_shapes(Decoder(checkpoint.model.recurrent_weights()))
    weight_bytes = sum(n * k for n, k in shapes)
    buffer = torch.ones(BUFFER_BYTES // 4)
    found = {}
    for name, count in (("stock", 100), ("naive", 60)):
        began = time.perf_counter()
        stock.write(count, is_naive=name == "naive")
        found[name] = count / (time.perf_counter() - began)
    found["stream"] = rate(buffer.sum, BUFFER_BYTES / weight_bytes)
    return found | {f"product {streams}": product_rate(shapes, min(streams, batch)) for streams in STREAMS}


async def measure_engine(checkpoint: Checkpoint, settings: EngineSettings, rounds: int) -> list[dict[str, float]]:
    """Rounds of everything. The others run in a thread that ends, or its OpenMP helpers would slow the engine."""
    found = []
    async with Engine(checkpoint, settings) as engine:
        for _ in range(rounds):
            with ThreadPoolExecutor(1) as passing:
                others = passing.submit(measure_others, checkpoint, settings.threads, settings.batch).result()
            found.append(others | {f"engine {streams}": await engine_rate(engine, streams) for streams in STREAMS})
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    checkpoint = load(chosen.checkpoint)
    # the story must not end early, or streams would be of different lengths
    checkpoint.model.output_bias.data[checkpoint.tokenizer.document_id] = -100.0
    settings = EngineSettings(threads=chosen.threads, state_cache_mb=0, shutdown_grace_s=0)
    rounds = asyncio.run(measure_engine(checkpoint, settings, chosen.rounds))
    best = {name: max(each[name] for each in rounds) for name in rounds[0]}
    heading(f"decode: {checkpoint.name}, int8, default sampling, {chosen.threads} threads")
    rows = [[name, best[name], best[name] / best["stock"], "", ""] for name in ("stock", "naive", "stream")]
    for streams in STREAMS:
        written, product = best[f"engine {streams}"], best[f"product {streams}"]
        limit = min(best["stream"], product) if streams == 1 else product
        bar = f"{BARS[streams]} x" if streams in BARS else ""
        name = f"engine, {streams:,} stream{'s' * (streams > 1)}"
        rows.append([name, written, written / best["stock"], bar, f"{written / limit:.0%}"])
    table(("", "tokens/s", "x stock", "bar", "of the limit"), rows)


if __name__ == "__main__":
    main()
