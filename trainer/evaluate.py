"""`python -m trainer eval`: how well a checkpoint predicts texts it has not seen, counted over the raw text.

Every text begins with `document_id` from the zero state, the state is carried to its end, every piece of it counts and
nothing else does. Texts of like length stand side by side in a batch, which changes no number beyond rounding. A closed
vocabulary reads what it does not know (OOV) as `<unk>`, which is easier to predict than the word that stands there: so
its figures are given with those tokens in and with them out.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.checkpoint import load_checkpoint
from core.errors import CorpusError
from core.tokenizer import Tokenizer

from .corpus import Document, read_documents
from .devices import find_device, keep_freed_memory
from .loss import cross_entropy
from .split import leave_out
from .start import checkpoint_folder
from .tokens import bounded_exp, count_text, perplexity_text, stream_of

_WINDOW = 256
_LANES = 64  # texts side by side, so that a folder of a thousand chapters needs no more memory than one of 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Total negative log-likelihood of a text, and how long the text is in every unit."""

    nats: float
    tokens: int
    words: int  # split at white space
    bytes: int  # UTF-8
    oov_tokens: int = 0
    oov_nats: float = 0.0  # what of `nats` the model paid for `<unk>`

    def __add__(self, other: "Score") -> "Score":
        return Score(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Score)})

    def report(self, tokenizer: Tokenizer) -> dict[str, float | int | None]:
        """The figures by name; a perplexity is None where there is nothing that it could be the mean of."""
        figures: dict[str, float | int | None] = {
            "nats": self.nats,
            "tokens": self.tokens,
            "words": self.words,
            "bytes": self.bytes,
            "bits_per_byte": self.nats / math.log(2) / self.bytes,
            "word_perplexity": _perplexity(self.nats, self.words),
            "token_perplexity": _perplexity(self.nats, self.tokens),
        }
        if not tokenizer.is_lossless:
            known = self.nats - self.oov_nats
            figures |= {
                "oov_tokens": self.oov_tokens,
                "oov_rate": self.oov_tokens / self.tokens,
                "token_perplexity_without_oov": _perplexity(known, self.tokens - self.oov_tokens),
            }
            if tokenizer.splits_words:  # each unknown token is a word
                figures["word_perplexity_without_oov"] = _perplexity(known, self.words - self.oov_tokens)
        return figures


def evaluate(args: argparse.Namespace) -> int:
    """Run the command."""
    keep_freed_memory()
    documents = [document for path in args.texts for document in read_documents(Path(path))]
    tuning = _to_tune_on(args, documents)
    checkpoint = load_checkpoint(checkpoint_folder(args.checkpoint))
    model = checkpoint.model.to(find_device(args.device))
    texts = [document.read() for document in documents]
    scores = score_texts(model, checkpoint.tokenizer, texts)
    reports = [score.report(checkpoint.tokenizer) for score in (*scores, sum(scores[1:], start=scores[0]))]
    with_memory = _with_memory(args, model, checkpoint.tokenizer, tuning, texts)
    if args.json:
        each = [{"path": str(document.path)} | report for document, report in zip(documents, reports, strict=False)]
        print(json.dumps(reports[-1] | {"texts": each} | with_memory))
    else:
        _print_table([*(document.path.name for document in documents), "all"], reports)
        for name, figures in with_memory.items():
            settings = f" with {figures['settings']}" if figures["settings"] else ""
            word = f", {perplexity_text(figures['word_perplexity'], 2)} ppl/word"
            print(f"{name}: {figures['bits_per_byte']:.4f} bits/byte{word}{settings}")
    return 0


def _to_tune_on(args: argparse.Namespace, measured: list[Document]) -> list[Document]:
    """The text to choose the memory's settings on; none without memory. Raises CorpusError where it is not apart."""
    if not (args.cache or args.dynamic):
        return []
    if args.tune_on is None:
        raise CorpusError("--cache and --dynamic need --tune-on with validation text, to choose their settings on")
    documents = read_documents(args.tune_on)
    if len(leave_out(documents, [document.path for document in measured])) < len(documents):
        raise CorpusError(f"--tune-on must name text that is not measured itself, got {args.tune_on}")
    return documents


def _with_memory(
    args: argparse.Namespace, model: Any, tokenizer: Tokenizer, tuning: list[Document], texts: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The totals once more for each kind of memory asked for, its settings chosen on the text to tune on."""
    if not tuning:
        return {}
    from .memory import Memory

    ids = stream_of([document.read() for document in tuning], tokenizer)
    memory = Memory(
        model, ids, tune_tokens=args.tune_tokens, cache=args.cache, dynamic=args.dynamic, segment=args.segment
    )
    return memory.figures(stream_of(texts, tokenizer), texts, tokenizer)


def score_texts(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Score]:
    """Score each text on its own. Raises CorpusError if one is empty."""
    sequences = [torch.from_numpy(stream_of([text], tokenizer)) for text in texts]
    if min(map(len, sequences)) < 2:
        raise CorpusError("expected text to score, got an empty one")
    scores = []
    for text, ids, (nats, oov_nats) in zip(
        texts, sequences, _nats(model, sequences, tokenizer.unknown_id), strict=True
    ):
        words, size = count_text(text)
        oov = int((ids == tokenizer.unknown_id).sum())
        score = Score(nats=nats, tokens=len(ids) - 1, words=words, bytes=size, oov_tokens=oov, oov_nats=oov_nats)
        scores.append(score)
    return scores


@torch.no_grad()
def _nats(model: Any, sequences: Sequence[Tensor], unknown_id: int) -> list[list[float]]:
    """-log p of each sequence after its first id, and of that what `unknown_id` cost."""
    model.eval()
    totals = [[0.0, 0.0] for _ in sequences]
    order = sorted(range(len(sequences)), key=lambda lane: -len(sequences[lane]))
    for start in range(0, len(order), _LANES):
        _add_nats(totals, model, sequences, order[start : start + _LANES], unknown_id)
    return totals


def _add_nats(
    totals: list[list[float]], model: Any, sequences: Sequence[Tensor], order: Sequence[int], unknown_id: int
) -> None:
    """Read the sequences in `order`, the longest first, side by side; a finished one leaves the batch."""
    device, layer = model.output_bias.device, (model.output_weight, model.output_bias)
    rows = [sequences[lane] for lane in order]
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
            unknown = targets == unknown_id
            totals[order[lane]][0] += float(cross_entropy(output, *layer, targets))
            totals[order[lane]][1] += float(cross_entropy(output[unknown], *layer, targets[unknown]))


def _perplexity(nats: float, count: int) -> float | None:
    return bounded_exp(nats / count) if count > 0 else None


def _print_table(names: Sequence[str], reports: Sequence[Mapping[str, Any]]) -> None:
    columns = {"bits_per_byte": "bits/byte", "word_perplexity": "ppl/word", "token_perplexity": "ppl/token"}
    if "oov_rate" in reports[0]:
        columns |= {"oov_rate": "OOV", "token_perplexity_without_oov": "without OOV"}
    print(f"{'text':<44}{'words':>10}{'bytes':>11}" + "".join(f"{title:>13}" for title in columns.values()))
    shapes = {"bits_per_byte": ".4f", "oov_rate": ".2%"}
    for name, report in zip(names, reports, strict=True):
        cells = (("-" if report[key] is None else f"{report[key]:{shapes.get(key, ',.2f')}}") for key in columns)
        line = f"{name[:43]:<44}{report['words']:>10,}{report['bytes']:>11,}"
        print(line + "".join(f"{cell:>13}" for cell in cells))
