"""The short commands: floors, index, fetch and clean. Each reads its arguments, calls one module, prints."""

import argparse
import json
import sys
from pathlib import Path

from core.errors import CorpusError


def floors(args: argparse.Namespace) -> int:
    """Print what a 5-gram, PPMd and xz make of texts after reading the training text."""
    from core.tokenizer import Tokenizer

    from .corpus import read_documents
    from .floors import measure_floors
    from .start import checkpoint_folder

    training = [document.read() for document in read_documents(args.training)]
    texts = [document.read() for path in args.texts for document in read_documents(path)]
    results = measure_floors(training, texts, Tokenizer.load(checkpoint_folder(args.tokenizer) / "tokenizer.model"))
    if args.json:
        print(json.dumps(results))
        return 0
    for name, figures in results.items():
        perplexity = "" if figures["word_perplexity"] is None else f"{figures['word_perplexity']:>12.2f} ppl/word"
        print(f"{name:<30}{figures['bits_per_byte']:>8.4f} bits/byte{perplexity}")
    return 0


def index(args: argparse.Namespace) -> int:
    """Write the novelty index of a corpus into a checkpoint."""
    from core.novelty import FILE_NAME, NoveltyIndex

    from .corpus import read_documents
    from .start import checkpoint_folder

    checkpoint = checkpoint_folder(args.checkpoint)
    if not (checkpoint / "config.json").is_file():
        raise CorpusError(f"{checkpoint}: expected a checkpoint folder with a config.json")
    novelty = NoveltyIndex.build(document.stretches() for document in read_documents(args.corpus))
    novelty.save(checkpoint)
    share = "all" if not novelty.sampling_bits else f"one in {2**novelty.sampling_bits}"
    print(
        f"{checkpoint / FILE_NAME}: {novelty.ngrams:,} runs of {novelty.ngram_words} words ({share} of them), "
        f"{(checkpoint / FILE_NAME).stat().st_size:,} bytes, false-positive rate {novelty.false_positive_rate:.1e}"
    )
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Fetch books from Project Gutenberg; 1 where some could not be."""
    from .gutenberg import MIRROR, Gutenberg

    books, failures = Gutenberg(args.mirror or MIRROR).fetch(args.numbers, Path(args.out))
    for book in books:
        print(f"{book.number}\t{book.file}\t{book.words:,} words\t{book.author}: {book.title}")
    for error in failures.values():
        print(f"error: {error}", file=sys.stderr)
    return 1 if failures else 0


def clean(args: argparse.Namespace) -> int:
    """Clean a folder of text files and say what was changed."""
    from .clean import Cleaning, clean_folder

    cleaning = Cleaning(
        encoding=args.encoding,
        entities=args.entities,
        joined_lines=args.joined_lines,
        plain_punctuation=args.plain_punctuation,
        drop_duplicates=args.drop_duplicates,
    )
    for line in clean_folder(Path(args.source), Path(args.out), cleaning).lines():
        print(line)
    return 0
