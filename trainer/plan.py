"""What a run will do with its time: sizes, dropout and vocabulary, from the corpus and this machine's measured speed.

Nothing here is secret knowledge: a network is as large as leaves each of its weights some text to learn from, and the
more often it passes over the books, the more it is regularised. What the command line names is kept; the rest is filled
in. The plan is printed before the run and stored in the checkpoint.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from core.models import State, build_model, detach_state

from .graphs import Graph
from .step import forward

# Embedding and hidden width of two tied layers, small to large.
_SIZES = ((96, 192), (128, 256), (192, 384), (256, 512), (384, 640), (512, 768), (640, 1280))
_LAYERS = 2
_TOKENS_A_WEIGHT = 0.6  # read in the whole run, at least, by any but the smallest network
_UPDATES = 5000  # in the whole run, where the smallest batch allows it
_UPDATES_A_PASS = 100
_LATER_PASSES = 6.0  # at most, of a model that has learned before: more only teach it the books by heart
_LATER_DROPOUT = 0.12  # of such a model: more harms what it has learned
_LANES = (32, 96)  # fewer rows make slow products
_WINDOWS = (32, 64)
_BYTES_PER_TOKEN = {512: 1.9, 1024: 2.7, 2048: 3.3, 4096: 3.8, 8192: 4.0}  # of so many pieces, on English prose
_OVERHEAD = 0.85  # share of the time that is training, not validation or laying data out


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The shape of a run."""

    vocab_size: int
    embedding_size: int
    hidden_size: int
    layers: int
    dropout: float
    lanes: int
    bptt: int
    flops: float | None = None  # measured, floating-point operations a second; None if nothing was left to plan
    tokens: float | None = None  # that the run is expected to read
    passes: float | None = None  # over the training text
    start: str | None = None  # the checkpoint that it goes on from
    steps: int | None = None  # after which it ends, if there is time for them

    @property
    def updates(self) -> float | None:
        """How many steps the run is expected to make."""
        return None if self.tokens is None else self.tokens / (self.lanes * self.bptt)

    def describe(self, minutes: float, steps: int | None = None) -> str:
        """One paragraph for the console, of a run of `steps` steps, or of so many minutes where None are asked for."""
        expected = "as the command line says"
        if steps is not None:
            expected = f"{steps:,} steps"
        elif self.flops is not None and self.tokens is not None and self.updates is not None:
            ends_early = self.steps is not None and self.steps < self.updates + 1
            time = f"a part of {minutes:g} minutes" if ends_early else f"{minutes:g} minutes"
            expected = (
                f"{time} at {self.flops / 1e9:.0f} GFLOP/s, "
                f"about {self.tokens / 1e6:.1f} million tokens, {self.passes:.1f} passes"
            )
        start = "" if self.start is None else f"\ngoes on from {self.start}; --from nothing begins with new weights"
        return (
            f"plan: {expected}{start}\nvocabulary {self.vocab_size}, embedding {self.embedding_size}, "
            f"{self.layers} layers of {self.hidden_size}, dropout {self.dropout:.2f}, "
            f"{self.lanes} lanes x {self.bptt} tokens"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line fixes; None leaves it to the plan."""

    vocab_size: int | None = None
    embedding_size: int | None = None
    hidden_size: int | None = None
    layers: int | None = None
    dropout: float | None = None
    lanes: int | None = None
    bptt: int | None = None

    @property
    def are_complete(self) -> bool:
        """Whether nothing is left to plan."""
        return None not in asdict(self).values()

    def fixed(self) -> Plan:
        """The plan of somebody who leaves nothing to it."""
        return Plan(**asdict(self))


def make_plan(
    wishes: Wishes,
    *,
    architecture: str = "awd_lstm",
    corpus_bytes: int,
    seconds: float,
    flops: float,
    bytes_per_token: float | None = None,
    has_learned: bool = False,
) -> Plan:
    """Choose the largest network that still reads enough for its size in the time given.

    One that has learned before does not pass over them too often: where there is time left, the run ends early. What a
    token of these books stands for is guessed from the size of the vocabulary, unless `bytes_per_token` is known.
    """
    vocab_size = wishes.vocab_size or _vocab_size(corpus_bytes)
    corpus_tokens = max(1.0, corpus_bytes / (bytes_per_token or _bytes_per_token(vocab_size)))
    layers = wishes.layers or _LAYERS
    chosen = None
    for sizes in _SIZES:
        embedding_size = wishes.embedding_size or sizes[0]
        hidden_size = wishes.hidden_size or sizes[1]
        weights = _weights(architecture, vocab_size, embedding_size, hidden_size, layers)
        tokens = _OVERHEAD * seconds * flops / (6 * weights)
        if chosen is not None and tokens < _TOKENS_A_WEIGHT * weights:
            break
        chosen = embedding_size, hidden_size, tokens
    assert chosen is not None
    embedding_size, hidden_size, tokens = chosen
    most = _LATER_PASSES * corpus_tokens if has_learned else math.inf
    tokens = min(tokens, most)
    passes = tokens / corpus_tokens
    dropout = _LATER_DROPOUT if has_learned else _dropout(passes)
    bptt = wishes.bptt or _window(tokens)
    lanes = wishes.lanes or _lanes(tokens, corpus_tokens, bptt)
    return Plan(
        vocab_size=vocab_size,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        layers=layers,
        dropout=dropout if wishes.dropout is None else wishes.dropout,
        lanes=lanes,
        bptt=bptt,
        flops=flops,
        tokens=tokens,
        passes=passes,
        steps=max(1, round(most / (lanes * bptt))) if has_learned else None,  # where there is time for them
    )


def measure_flops(
    architecture: str,
    device: torch.device,
    *,
    bfloat16: bool,
    int8: bool,
    processes: int = 1,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """Train a middling network for about two seconds: floating-point operations a second, over all processes.

    Counted as those of its matrix products, as a plan counts them, whatever the architecture does beside.
    """
    state = torch.get_rng_state()
    sizes = {"vocab_size": 4096, "embedding_size": 384, "hidden_size": 640, "layers": 2}
    model = build_model(architecture, sizes | {"document_id": 1})
    model.to(device)
    ids = torch.randint(2, 4096, (32, 64), device=device)

    def work(inputs: Tensor, targets: Tensor, carried: State) -> tuple[tuple[Tensor], State]:
        loss, _, carried = forward(model, inputs, targets.flatten(), carried, bfloat16=bfloat16, int8=int8)
        loss.backward()  # type: ignore[no-untyped-call]
        return (loss.detach(),), detach_state(carried)

    graph, carried = Graph(work, device), model.init_state(64)
    warm_up = 5 if device.type == "cuda" else 1  # steps in which weights are packed, threads woken, a graph recorded
    steps, spent = 0, 0.0
    while spent < 2.0:
        began = now()
        _, carried = graph("measured", ids, ids, carried)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps += 1
        if steps > warm_up:
            spent += now() - began
    done = (steps - warm_up) * ids.numel()
    torch.set_rng_state(state)
    return float(processes * 6 * _weights(architecture, **sizes) * done / spent)


def _weights(architecture: str, vocab_size: int, embedding_size: int, hidden_size: int, layers: int) -> int:
    """Weights that take part in matrix products, of a tied network: a transformer, or an LSTM of some kind."""
    if architecture == "transformer":
        return vocab_size * embedding_size + layers * embedding_size * (4 * embedding_size + 2 * hidden_size)
    widths = [hidden_size] * (layers - 1) + [embedding_size]
    inputs = [embedding_size, *widths[:-1]]
    return vocab_size * embedding_size + sum(4 * h * (e + h) for e, h in zip(inputs, widths, strict=True))


def _vocab_size(corpus_bytes: int) -> int:
    """Rare pieces need text to be learned from: 600 bytes of it each at least, but for the smallest vocabulary."""
    size = 8192
    while size > 512 and corpus_bytes < 600 * size:
        size //= 2
    return size


def _bytes_per_token(vocab_size: int) -> float:
    """As many pieces as the nearest size that was measured has."""
    return _BYTES_PER_TOKEN[min(_BYTES_PER_TOKEN, key=lambda size: abs(math.log(size / vocab_size)))]


def _dropout(passes: float) -> float:
    """None to speak of for one pass, up to a half for fifty."""
    return round(min(0.5, 0.05 + 0.08 * max(0.0, math.log2(passes))), 2)


def _window(tokens: float) -> int:
    """Short where time is: many updates teach more than long ones, and the state is carried over anyway."""
    short, long = _WINDOWS
    return long if tokens >= _UPDATES * _LANES[0] * long else short


def _lanes(tokens: float, corpus_tokens: float, bptt: int) -> int:
    """As many as leave enough updates in the run and in a pass over the books, and a whole number of eights."""
    fewest, most = _LANES
    wanted = min(max(fewest, tokens / (_UPDATES * bptt)), most)
    return int(max(8, min(wanted, corpus_tokens / (_UPDATES_A_PASS * bptt)) // 8 * 8))
