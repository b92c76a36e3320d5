"""What int8 and bfloat16 cost: word perplexity of held-out text by the decoder at each precision.

    python -m tests.benchmarks.quantisation TEXT…      files or folders of .txt

Without TEXT the checkpoint writes its own, at temperature 1: a check that needs no books, not the measure of record.
The text is read in lanes side by side, each from a fresh state, the same for every precision.
"""

import argparse
import math
from pathlib import Path

import torch

from core.checkpoint import Checkpoint
from core.decoder import Decoder
from core.products import Precision
from core.requests import SamplingDefaults, sampling_params
from core.sampling import generate_plain

from .table import heading, load, parser, table

LANES = 64
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


def read_text(paths: list[Path], limit: int) -> str:
    files = [file for path in paths for file in (sorted(path.rglob("*.txt")) if path.is_dir() else [path])]
    share = limit // max(len(files), 1)
    return "".join(file.read_text(encoding="utf-8")[:share] for file in files)


def own_text(checkpoint: Checkpoint) -> str:
    decoder = Decoder(checkpoint.model.recurrent_weights(), precision="float32")
    params = sampling_params(SamplingDefaults(temperature=1.0, top_p=1.0), max_tokens=4000, seed=1)
    return checkpoint.tokenizer.decode(generate_plain(decoder, [checkpoint.tokenizer.document_id], params))


@torch.inference_mode()
def nats(checkpoint: Checkpoint, precision: Precision, lanes: torch.Tensor, threads: int) -> float:
    """Total negative log-likelihood of lanes (T, B), each after a fresh document."""
    decoder = Decoder(
        checkpoint.model.recurrent_weights(), precision=precision, slots=LANES, max_rows=LANES, threads=threads
    )
    slots, total = list(range(LANES)), 0.0
    inputs = torch.full((LANES,), checkpoint.tokenizer.document_id)
    for targets in lanes:
        logits = decoder.step(inputs.tolist(), slots)  # (B, V)
        total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        inputs = targets
    return total


def main() -> None:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("text", nargs="*", type=Path)
    options.add_argument("--characters", type=int, default=600_000, help="of the text in all, evenly over its files")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    checkpoint = load(chosen.checkpoint)
    text = read_text(chosen.text, chosen.characters) if chosen.text else own_text(checkpoint)
    ids = checkpoint.tokenizer.encode(text)
    length = len(ids) // LANES
    lanes = torch.tensor(ids[: LANES * length]).view(LANES, length).t()  # (T, B)
    words = len(checkpoint.tokenizer.decode(ids[: LANES * length]).split())
    found = {each: nats(checkpoint, each, lanes, chosen.threads) for each in PRECISIONS}
    source = "held-out text" if chosen.text else "its own text"
    heading(f"quantisation: {checkpoint.name} on {source}, {lanes.numel():,} tokens, {words:,} words")
    exact = found["float32"]
    rows = [
        [each, f"{math.exp(value / words):.3f}", f"{math.exp((value - exact) / words) - 1:+.3%}"]
        for each, value in found.items()
    ]
    table(("", "word perplexity", "cost (bar for int8: 0.5 %)"), rows)


if __name__ == "__main__":
    main()
