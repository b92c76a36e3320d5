"""Lays a run's data out once: the tokenizer, and the ids of every split, in `OUT/data`."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.tokenizer import Tokenizer, TokenizerKind

from .split import Split
from .tokens import Ids, TextCounts, read_ids, write_ids

_TOKENIZER_CHARACTERS = 20_000_000  # of each of corpus and pretraining books: more changes few pieces, and costs memory
PARTS = ("train", "valid", "test", "pretrain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The tokenizer and the ids of each part; `pretrain` and `test` may be missing."""

    tokenizer: Tokenizer
    ids: dict[str, Ids]
    counts: dict[str, TextCounts]


def prepare(folder: Path, split: Split, pretrain: list[str], *, vocab_size: int, kind: TokenizerKind) -> None:
    """Learn the vocabulary, from training text only, and encode everything."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = min(_TOKENIZER_CHARACTERS, sum(map(len, split.train)))
    learned_from = split.train if kind == "word" else [*_sample(split.train, wanted), *_sample(pretrain, wanted)]
    tokenizer = Tokenizer.train(learned_from, vocab_size=vocab_size, kind=kind)
    (folder / "tokenizer.model").write_bytes(tokenizer.to_bytes())
    parts = {"train": split.train, "valid": split.valid, "test": split.test, "pretrain": pretrain}
    present = [name for name in PARTS if parts[name]]
    for name in present:
        write_ids(folder / f"{name}.ids", parts[name], tokenizer)
    (folder / "parts.json").write_text(json.dumps(present) + "\n", encoding="utf-8")


def is_prepared(folder: Path) -> bool:
    """Whether an earlier process finished laying the data out here."""
    return (folder / "parts.json").exists()


def open_data(folder: Path) -> Data:
    """Map what `prepare` wrote."""
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    parts = {name: read_ids(folder / f"{name}.ids") for name in json.loads((folder / "parts.json").read_text("utf-8"))}
    return Data(
        tokenizer=tokenizer,
        ids={name: ids for name, (ids, _) in parts.items()},
        counts={name: counts for name, (_, counts) in parts.items()},
    )


def table(data: Data) -> str:
    """The split as people check it: tokens, words and bytes of each part."""
    rows = [(name, data.counts[name]) for name in PARTS if name in data.counts]
    main = [counts for name, counts in rows if name != "pretrain"]
    lines = [f"{'part':<12}{'tokens':>14}{'words':>14}{'bytes':>14}"]
    names = {"train": "training", "valid": "validation", "test": "test", "pretrain": "pretraining"}
    for name, counts in rows:
        if name != "pretrain":
            lines.append(f"{names[name]:<12}{counts.tokens:>14,}{counts.words:>14,}{counts.bytes:>14,}")
    sums = [sum(getattr(counts, unit) for counts in main) for unit in ("tokens", "words", "bytes")]
    lines.append(f"{'total':<12}" + "".join(f"{value:>14,}" for value in sums))
    if "pretrain" in data.counts:
        counts = data.counts["pretrain"]
        lines.append(f"{'pretraining':<12}{counts.tokens:>14,}{counts.words:>14,}{counts.bytes:>14,}")
    return "\n".join(lines)


def _sample(texts: list[str], characters: int) -> list[str]:
    """Even pieces of every text, about `characters` in all."""
    total = sum(map(len, texts))
    if total <= characters:
        return texts
    share = characters / total
    return [text[start : start + int(50_000 * share)] for text in texts for start in range(0, len(text), 50_000)]
