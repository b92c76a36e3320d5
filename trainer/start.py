"""What a run begins with: new weights, or those of a model that has read more than these books hold.

A model that knows the language takes up a new author within minutes, which from nothing all go into spelling. It brings
its architecture, its sizes and its vocabulary.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.checkpoint import Checkpoint, load_checkpoint
from core.engines import RUN_CHECKPOINT, SHIPPED
from core.errors import ConfigError
from core.tokenizer import Tokenizer

from .corpus import Document

NOTHING = "nothing"
_FIT = 0.85  # of the bytes that a piece of its vocabulary stood for in its own books
SIZES = ("vocab_size", "embedding_size", "hidden_size", "layers")
_BROUGHT = (*SIZES, "architecture", "tokenizer")
_LEARNED_FROM = ("train", "pretrain")
_SAMPLED_FROM, _SAMPLE = 1_000_000, 20_000  # of so many characters, so many are looked at


def choose_start(args: argparse.Namespace, books: Sequence[Document]) -> Checkpoint | None:
    """The model to go on from, None to begin from nothing.

    `--from` decides where it is given. Else the model that ships is taken, if nothing that it brings was asked for
    otherwise and it fits. Raises ConfigError where the options ask for what the named model is not.
    """
    source = vars(args)["from"]  # a keyword
    asked = {option: value for option in _BROUGHT if (value := getattr(args, option)) is not None}
    if source == NOTHING or (source is None and (asked or args.pretrain)):
        return None
    if source is None:
        shipped = [load_start(config.parent) for config in sorted(SHIPPED.glob("*/config.json"))]
        return next((checkpoint for checkpoint in shipped if _fits(checkpoint, books)), None)
    start = load_start(source)
    brought = start.config.model | {"architecture": start.config.architecture}
    if odd := [option for option, value in asked.items() if brought.get(option) != value]:
        names = ", ".join(f"--{option.replace('_', '-')}" for option in odd)
        raise ConfigError(f"--from {source} brings its own network and vocabulary, so leave out {names}")
    return start


def load_start(path: str | Path) -> Checkpoint:
    """A checkpoint by its own folder or by that of the run that made it."""
    path = checkpoint_folder(path).resolve()
    name = path.parent.name if path.name == RUN_CHECKPOINT else path.name
    return replace(load_checkpoint(path), name=name)


def checkpoint_folder(path: str | Path) -> Path:
    """The folder of a checkpoint that is named by its own or by that of the run that made it."""
    path = Path(path)
    return path / RUN_CHECKPOINT if (path / RUN_CHECKPOINT).is_dir() else path


def lineage(start: Checkpoint) -> dict[str, Any]:
    """What the facts of a run say about the model it went on from, and about the one before that."""
    kept = ("command", "corpus", "books", "tokens", "start")
    return {"name": start.name} | {key: value for key, value in start.config.training.items() if key in kept}


def read_before(start: Checkpoint, books: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of those held-out books that a model learned from on its way here: it cannot be measured on them."""
    read: set[str] = set()
    facts = start.config.training
    while facts:
        read.update(*(names for part, names in facts.get("books", {}).items() if part in _LEARNED_FROM))
        facts = facts.get("start", {})
    held_out = {name for part, names in books.items() if part not in _LEARNED_FROM for name in names}
    return sorted(held_out & read)


def _fits(checkpoint: Checkpoint, books: Sequence[Document]) -> bool:
    """Whether it has read more than these books hold, in a language like theirs as far as its vocabulary tells."""
    read = [counts for part, counts in checkpoint.config.training["corpus"].items() if part in _LEARNED_FROM]
    size, tokens = (sum(counts[unit] for counts in read) for unit in ("bytes", "tokens"))
    has_read_more = size > sum(book.size for book in books)
    return bool(has_read_more and bytes_per_token(checkpoint.tokenizer, books) > _FIT * size / tokens)


def bytes_per_token(tokenizer: Tokenizer, books: Sequence[Document]) -> float:
    """How much text a token stands for in samples of these books."""
    size = tokens = 0
    for book in books:
        for stretch in book.stretches(_SAMPLED_FROM):
            sample = stretch[:_SAMPLE]
            size, tokens = size + len(sample.encode()), tokens + len(tokenizer.encode(sample))
    return size / max(1, tokens)
