"""How fast the trainer's step is, against this machine's rate of large bfloat16 products and a stock training loop.

All count the same: six floating-point operations for each weight that takes part in a product and each token,
forward and back (Kaplan et al. 2020), in the time of a whole step, optimiser and clipping included. The stock loop is
what tutorials write: `nn.LSTM` in float32, `nn.Linear`, `nn.CrossEntropyLoss`, `clip_grad_norm_` and Adam, at the same
sizes.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core.models import build_model
from trainer.batches import Batches, Single
from trainer.devices import keep_freed_memory
from trainer.loop import Loop, LoopSettings
from trainer.schedule import Clock
from trainer.segments import Segment, Shuffled

from .table import heading, load, parser, table

_SQUARE = 4096

Work = Callable[[], Any]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--lanes", type=int, default=64)
    options.add_argument("--bptt", type=int, default=64)
    options.add_argument("--rounds", type=int, default=5)
    args = options.parse_args()
    config = load(args.checkpoint).config.model
    tokens = args.lanes * args.bptt
    heading(f"A training step of {args.lanes} lanes x {args.bptt} tokens, {args.threads} threads")
    operations = 6.0 * _weights(build_model("awd_lstm", config)) * tokens
    contenders: list[tuple[str, Callable[[], Work], float]] = [
        (f"bfloat16 product, {_SQUARE} x {_SQUARE}", _product, 2.0 * _SQUARE**3),
        ("our step, int8", partial(_our_step, config, args.lanes, args.bptt, int8=True), operations),
        ("our step, bfloat16", partial(_our_step, config, args.lanes, args.bptt, int8=False), operations),
        ("stock nn.LSTM step, float32", partial(_stock_step, config, args.lanes, args.bptt), operations),
    ]
    seconds = _best_times([make for _, make, _ in contenders], args.rounds, args.threads)
    rates = [operations / spent / 1e9 for (_, _, operations), spent in zip(contenders, seconds, strict=True)]
    rows = []
    for (name, _, _), spent, rate in zip(contenders, seconds, rates, strict=True):
        is_step = "step" in name
        speed = f"{tokens / spent:,.0f}" if is_step else "-"
        rows.append((name, rate, speed, f"{rate / rates[0]:.0%}", f"{rate / rates[-1]:.2f} x"))
    table(("", "GFLOP/s", "tokens/s", "of the product", "of stock"), rows)


def _best_times(makers: list[Callable[[], Work]], rounds: int, threads: int) -> list[float]:
    """The best time of each, in a process of its own as it would be used; in turns, so that none meets a disturbance
    that the others do not."""
    best = [float("inf")] * len(makers)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _begin, (make, threads)))
            for make in makers
        ]
        for _ in range(rounds):
            for number, process in enumerate(processes):
                best[number] = min(best[number], process.submit(_time).result())
    return best


_work: Work  # of this process


def _begin(make: Callable[[], Work], threads: int) -> None:
    global _work  # noqa: PLW0603
    torch.set_num_threads(threads)
    _work = make()
    _work()


def _time() -> float:
    began = time.perf_counter()
    _work()
    return time.perf_counter() - began


def _product() -> Work:
    left, right = (torch.randn(_SQUARE, _SQUARE).bfloat16() for _ in range(2))
    return lambda: left @ right


def _our_step(config: dict[str, Any], lanes: int, bptt: int, *, int8: bool) -> Work:
    keep_freed_memory()
    loop = _loop(build_model("awd_lstm", config), config, lanes, bptt, int8)
    loop._begin(progress=0.0, due=0)
    return lambda: loop._train_step(0.5)


def _stock_step(config: dict[str, Any], lanes: int, bptt: int) -> Work:
    return _StockLoop(config, build_model("awd_lstm", config).config.widths, lanes, bptt).step


def _loop(model: Any, config: dict[str, Any], lanes: int, bptt: int, int8: bool) -> Loop:
    """The trainer's own loop, on ids drawn at random."""
    ids = np.random.default_rng(1).integers(10, config["vocab_size"], 1_000_000, dtype=np.uint32)
    segments = [Segment(start=start, end=start + 6_400) for start in range(1, len(ids) - 6_401, 6_400)]
    source = Single(Shuffled(segments, np.random.default_rng(1)))
    batches = Batches({"target": ids}, source, lanes=lanes, document_id=config["document_id"])

    def no_validation() -> Any:
        raise AssertionError("a step does not validate")

    return Loop(
        model,
        batches,
        LoopSettings(bptt=bptt, int8=int8),
        Clock(steps=1_000_000),
        lanes=lanes,
        folder=Path("never-written"),
        validate=no_validation,
        on_best=lambda validation: None,
        report=lambda facts: None,
    )


class _StockLoop:
    """A tutorial's training step, with layers as wide as ours and tied weights, so that both have the same products."""

    def __init__(self, config: dict[str, Any], widths: tuple[int, ...], lanes: int, bptt: int) -> None:
        widths = (config["embedding_size"], *widths)
        self.embedding = nn.Embedding(config["vocab_size"], widths[0])
        self.layers = nn.ModuleList(nn.LSTM(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(widths[-1], config["vocab_size"])
        if widths[-1] == widths[0]:
            self.output.weight = self.embedding.weight
        self.parts = nn.ModuleList([self.embedding, self.layers, self.output])
        self.optimizer = torch.optim.Adam(self.parts.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss()
        self.ids = torch.randint(10, config["vocab_size"], (bptt + 1, lanes))
        self.states: list[Any] = [None] * len(self.layers)

    def step(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        output = self.dropout(self.embedding(self.ids[:-1]))
        for number, layer in enumerate(self.layers):
            output, state = layer(output, self.states[number])
            self.states[number] = tuple(x.detach() for x in state)
            output = self.dropout(output)
        loss = self.loss(self.output(output).flatten(0, 1), self.ids[1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.parts.parameters(), 0.25)
        self.optimizer.step()


def _weights(model: Any) -> int:
    """Weights that take part in products."""
    weights = model.recurrent_weights()
    layers = sum(layer.weight_ih.numel() + layer.weight_hh.numel() for layer in weights.layers)
    return int(layers + weights.output_weight.numel())


if __name__ == "__main__":
    main()
