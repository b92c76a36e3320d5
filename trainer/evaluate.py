"""`python -m trainer eval`: how well a checkpoint predicts texts it has not seen, counted over the raw text.

Every text begins with `document_id` from the zero state, the state is carried to its end, every piece of it counts and
nothing else does. Texts stand side by side in a batch, which changes no number beyond rounding.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.checkpoint import load_checkpoint
from core.errors import CorpusError
from core.tokenizer import Tokenizer

from .corpus import Document, read_documents
from .devices import find_device
from .loss import cross_entropy
from .tokens import bounded_exp, count_text, stream_of

_WINDOW = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Total negative log-likelihood of a text, and how long the text is in every unit."""

    nats: float
    tokens: int
    words: int  # split at white space
    bytes: int  # UTF-8
    oov_tokens: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            nats=self.nats + other.nats,
            tokens=self.tokens + other.tokens,
            words=self.words + other.words,
            bytes=self.bytes + other.bytes,
            oov_tokens=self.oov_tokens + other.oov_tokens,
        )

    def report(self, *, is_closed: bool) -> dict[str, float | int | None]:
        """The figures by name; a perplexity per word is None for a text without words."""
        figures: dict[str, float | int | None] = {
            "nats": self.nats,
            "tokens": self.tokens,
            "words": self.words,
            "bytes": self.bytes,
            "bits_per_byte": self.nats / math.log(2) / self.bytes,
            "word_perplexity": bounded_exp(self.nats / self.words) if self.words else None,
            "token_perplexity": bounded_exp(self.nats / self.tokens),
        }
        if is_closed:
            figures["oov_rate"] = self.oov_tokens / self.tokens
        return figures


def evaluate(args: argparse.Namespace) -> int:
    """Run the command."""
    checkpoint = load_checkpoint(args.checkpoint)
    model = checkpoint.model.to(find_device(args.device))
    documents = [document for path in args.texts for document in read_documents(Path(path))]
    scores = score_documents(model, checkpoint.tokenizer, documents)
    is_closed = not checkpoint.tokenizer.is_lossless
    total = sum(scores[1:], start=scores[0]).report(is_closed=is_closed)
    with_memory = _with_memory(args, model, checkpoint.tokenizer, documents)
    if args.json:
        texts = [
            {"path": str(document.path)} | score.report(is_closed=is_closed)
            for document, score in zip(documents, scores, strict=True)
        ]
        print(json.dumps(total | {"texts": texts} | with_memory))
    else:
        _print_table(documents, scores, is_closed)
        for name, figures in with_memory.items():
            print(f"{name}: {figures['bits_per_byte']:.4f} bits/byte, {figures['word_perplexity']:.2f} ppl/word")
    return 0


def _with_memory(
    args: argparse.Namespace, model: Any, tokenizer: Tokenizer, documents: list[Document]
) -> dict[str, dict[str, Any]]:
    """The totals once more for each kind of memory asked for, its settings chosen on validation text."""
    if not (args.cache or args.dynamic):
        return {}
    if args.tune_on is None:
        raise CorpusError("--cache and --dynamic need --tune-on with validation text, to choose their settings on")
    from .memory import Memory

    tuning = stream_of([document.text for document in read_documents(args.tune_on)], tokenizer)
    memory = Memory(model, tuning[: args.tune_tokens], cache=args.cache, dynamic=args.dynamic)
    texts = [document.text for document in documents]
    return memory.figures(stream_of(texts, tokenizer), texts, tokenizer)


def score_documents(model: Any, tokenizer: Tokenizer, documents: list[Document]) -> list[Score]:
    """Score each text on its own. Raises CorpusError if one is empty."""
    encoded = [tokenizer.encode(document.text) for document in documents]
    for document, ids in zip(documents, encoded, strict=True):
        if not ids:
            raise CorpusError(f"expected text to score in {document.path}, it is empty")
    nats = _nats(model, [[tokenizer.document_id, *ids] for ids in encoded])
    scores = []
    for document, ids, total in zip(documents, encoded, nats, strict=True):
        words, size = count_text(document.text)
        oov = ids.count(tokenizer.unknown_id)
        scores.append(Score(nats=total, tokens=len(ids), words=words, bytes=size, oov_tokens=oov))
    return scores


@torch.no_grad()
def _nats(model: Any, sequences: list[list[int]]) -> list[float]:
    """-log p of each sequence after its first id, read side by side; a finished one leaves the batch."""
    device = model.output_bias.device
    model.eval()
    totals = [0.0] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda lane: -len(sequences[lane]))
    rows = [torch.tensor(sequences[lane]) for lane in order]
    state = model.init_state(len(rows))
    for start in range(0, len(rows[0]) - 1, _WINDOW):
        rows = [row for row in rows if len(row) - 1 > start]
        state = tuple(tensor[:, : len(rows)] for tensor in state)
        windows = [row[start : start + _WINDOW + 1] for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(windows).to(device)  # (T + 1, B)
        hidden, state = model.hidden(padded[:-1], state)
        for lane, window in enumerate(windows):
            steps = len(window) - 1
            output, targets = hidden.output[:steps, lane], padded[1 : steps + 1, lane]
            totals[order[lane]] += float(cross_entropy(output, model.output_weight, model.output_bias, targets))
    return totals


def _print_table(documents: list[Document], scores: list[Score], is_closed: bool) -> None:
    header = f"{'text':<44}{'words':>10}{'bytes':>11}{'bits/byte':>11}{'ppl/word':>11}{'ppl/token':>11}"
    print(header + (f"{'OOV':>8}" if is_closed else ""))
    rows = [(document.path.name, score) for document, score in zip(documents, scores, strict=True)]
    for name, score in [*rows, ("all", sum(scores[1:], start=scores[0]))]:
        figures = score.report(is_closed=is_closed)
        word = f"{figures['word_perplexity']:.2f}" if figures["word_perplexity"] is not None else "-"
        line = f"{name[:43]:<44}{score.words:>10,}{score.bytes:>11,}{figures['bits_per_byte']:>11.4f}{word:>11}"
        line += f"{figures['token_perplexity']:>11.2f}"
        print(line + (f"{figures['oov_rate']:>8.2%}" if is_closed else ""))
