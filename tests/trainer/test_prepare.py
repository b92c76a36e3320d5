"""Laying data out takes as much memory for many books as for few."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from core.novelty import NoveltyIndex
from tests.tiny import TEXT
from trainer.corpus import read_documents
from trainer.prepare import is_prepared, open_data, prepare
from trainer.split import Split, split_contiguous

# VmHWM and not ru_maxrss, which begins with what the process had that started this one: here one with PyTorch in it.
# What is kept however many books there are is made small, so that four of them fill it.
MEASURE = """
import functools, sys
from pathlib import Path
import trainer.prepare
from trainer.corpus import read_documents
from trainer.split import split_contiguous
trainer.prepare._TOKENIZER_BYTES = 100_000
trainer.prepare.NoveltyIndex.build = functools.partial(trainer.prepare.NoveltyIndex.build, max_bytes=100_000)
for name in ("few", "many"):
    split = split_contiguous(read_documents(Path(sys.argv[1]) / name), (0.9, 0.05, 0.05))
    trainer.prepare.prepare(Path(sys.argv[1]) / f"{name}-data", split, [], vocab_size=400, kind="unigram")
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    for name, books in (("few", 4), ("many", 12)):
        (tmp_path / name).mkdir()
        for number in range(books):
            (tmp_path / name / f"{number}.txt").write_text(TEXT * (1_000_000 // len(TEXT)))
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    few_kb, many_kb = map(int, done.stdout.split())
    assert many_kb - few_kb < 4_000  # the 8 MB more that were read are not there


def test_what_is_laid_out_is_the_text(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(TEXT * 20)
    documents = read_documents(tmp_path / "book.txt")
    split = split_contiguous(documents, (0.8, 0.1, 0.1))
    prepare(tmp_path / "data", split, documents, vocab_size=400, kind="unigram")
    data = open_data(tmp_path / "data")
    read = "".join(data.tokenizer.decode(data.ids[part]) for part in ("train", "valid", "test"))
    assert read == data.tokenizer.decode(data.ids["pretrain"]) == TEXT * 20
    assert sum(data.counts[part].bytes for part in ("train", "valid", "test")) == len((TEXT * 20).encode())
    novelty = NoveltyIndex.load(tmp_path / "data")
    assert novelty is not None
    assert novelty.copied(TEXT).share == 1
    assert isinstance(data.ids["train"], np.memmap)


def test_characters_without_room_in_the_vocabulary_are_spelled_in_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    text = "".join(map(chr, 0x4E00 + (3500 * rng.random(60_000) ** 2).astype(int)))  # Chinese, some of it rare
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    documents = read_documents(tmp_path / "book.txt")
    prepare(tmp_path / "data", Split(train=documents, valid=documents, test=[]), [], vocab_size=512, kind="unigram")
    data = open_data(tmp_path / "data")
    assert 512 <= data.tokenizer.vocab_size < 5000
    assert data.tokenizer.decode(data.ids["train"]) == text


def test_data_counts_as_laid_out_when_all_of_it_is(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(TEXT)
    documents = read_documents(tmp_path / "book.txt")
    assert not is_prepared(tmp_path / "data")
    prepare(tmp_path / "data", Split(train=documents, valid=documents, test=[]), [], vocab_size=400, kind="bpe")
    assert is_prepared(tmp_path / "data")
    newest = max((tmp_path / "data").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert json.loads(newest.read_text()) == {"train": ["book"], "valid": ["book"]}
