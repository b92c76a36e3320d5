"""Chooses sampling settings by figures: those under which a model's texts read most like its authors'.

Every setting goes on from the same held-out prompts with the same seeds; the authors' own continuations are the mark
(the protocol of Holtzman et al. 2020). What "like" means is `TextStatistics.distance`. The texts come from the decoder
as the product runs it, in int8.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from core.checkpoint import Checkpoint, load_checkpoint
from core.errors import ConfigError
from core.products import Precision
from core.requests import NEUTRAL, SamplingDefaults, SamplingParams, sampling_params
from core.tokenizer import Tokenizer

from .corpus import read_documents
from .samples import Passage, cut_passages, mean_surprise, read_samples, write_samples
from .start import checkpoint_folder
from .text_statistics import TextStatistics, TrainingBooks, first_words, text_statistics

GRID = (
    *({"temperature": t, "top_p": p} for t in (0.8, 0.9, 0.95, 1.0) for p in (0.9, 0.95, 0.98, 1.0)),
    *({"temperature": t, "top_p": 1.0, "min_p": m} for t in (1.0, 1.1, 1.2) for m in (0.005, 0.01, 0.02, 0.05)),
    *({"temperature": 1.0, "top_p": p, "min_p": 0.005} for p in (0.95, 0.98)),
    {"temperature": 1.0, "top_p": 1.0, "top_k": 40},
    {"temperature": 0.9, "top_p": 0.95, "repetition_penalty": 1.05},
)

Settings = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One setting, the figures of its texts, and how far they are from human text."""

    settings: Settings
    statistics: TextStatistics
    distance: float


def sampling(args: argparse.Namespace) -> int:
    """Run the command: print the table of settings, the most human first."""
    checkpoint = load_checkpoint(checkpoint_folder(args.checkpoint))
    if not hasattr(checkpoint.model, "recurrent_weights"):
        raise ConfigError(f"{args.checkpoint}: nothing writes with the architecture {checkpoint.config.architecture}")
    held_out = [document.read() for document in read_documents(args.held_out)]
    passages = cut_passages(held_out, prompt_words=args.prompt_words, words=args.words, count=args.passages)
    others = read_documents(args.pretrain) if args.pretrain else []
    books = TrainingBooks(
        (document.read() for document in read_documents(args.books)), others=(document.read() for document in others)
    )
    print(table(*choose(checkpoint, passages, books, words=args.words)))
    return 0


def human_statistics(checkpoint: Checkpoint, passages: Sequence[Passage], books: TrainingBooks) -> TextStatistics:
    """Measure the authors' continuations."""
    samples = read_samples(checkpoint.model, checkpoint.tokenizer, passages)
    return text_statistics([sample.text for sample in samples], books, mean_surprise=mean_surprise(samples))


def model_statistics(
    checkpoint: Checkpoint, passages: Sequence[Passage], books: TrainingBooks, settings: Settings, *, words: int
) -> TextStatistics:
    """Measure the model's continuations of the same prompts, `words` words of each, under `settings`."""
    defaults = SamplingDefaults.model_validate(_OFF | {"max_tokens": room_for(passages, checkpoint.tokenizer)})
    params = [sampling_params(defaults, seed=seed, **settings) for seed in range(len(passages))]
    return continued_statistics(checkpoint, passages, books, params, words=words, precision="int8")


def room_for(passages: Sequence[Passage], tokenizer: Tokenizer) -> int:
    """How many tokens as many words as the authors' may take; hot settings make longer words."""
    return max(len(tokenizer.encode(passage.continuation)) for passage in passages) * 3 // 2


def continued_statistics(
    checkpoint: Checkpoint,
    passages: Sequence[Passage],
    books: TrainingBooks,
    params: Sequence[SamplingParams],
    *,
    words: int,
    precision: Precision | None = None,
) -> TextStatistics:
    """Measure the first `words` words of the model's continuations, one of each passage's prompt."""
    prompts = [passage.prompt for passage in passages]
    samples = write_samples(checkpoint.model, checkpoint.tokenizer, prompts, params, precision=precision)
    texts = [first_words(sample.text, words) for sample in samples]
    return text_statistics(texts, books, mean_surprise=mean_surprise(samples))


def choose(
    checkpoint: Checkpoint,
    passages: Sequence[Passage],
    books: TrainingBooks,
    *,
    words: int,
    grid: Sequence[Settings] = GRID,
) -> tuple[TextStatistics, list[Choice]]:
    """Return the human figures, and every setting's, the closest first."""
    human = human_statistics(checkpoint, passages, books)
    choices = []
    for settings in grid:
        statistics = model_statistics(checkpoint, passages, books, settings, words=words)
        choices.append(Choice(settings=settings, statistics=statistics, distance=statistics.distance(human)))
    return human, sorted(choices, key=lambda choice: choice.distance)


def table(human: TextStatistics, choices: Sequence[Choice]) -> str:
    """Return the figures as a Markdown table."""
    head = [
        *("temperature", "top_p", "top_k", "min_p", "repetition penalty"),
        *("distance", "surprise", "repeated 4-grams", "distinct-2", "distinct-3", "self-BLEU", "new words"),
        *("copied 4-grams", "copied 8-grams", "longest copy"),
    ]
    rows = [
        [
            *(f"{choice.settings.get(name, off):g}" for name, off in _OFF.items()),
            f"{choice.distance:.3f}",
            *figures(choice.statistics),
        ]
        for choice in choices
    ]
    rows.append(["**human**", "", "", "", "", "0", *figures(human)])
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def figures(statistics: TextStatistics) -> list[str]:
    """Return one row's figures, from surprise to the longest copied run."""
    surprise = statistics.mean_surprise
    return [
        "" if surprise is None else f"{surprise:.3f}",
        f"{statistics.repeated_4grams:.2%}",
        f"{statistics.distinct[2]:.3f}",
        f"{statistics.distinct[3]:.3f}",
        f"{statistics.self_bleu:.3f}",
        f"{statistics.new_words:.2%}",
        f"{statistics.copied[4]:.1%}",
        f"{statistics.copied[8]:.2%}",
        str(statistics.longest_run),
    ]


_OFF = {name: value for name, value in NEUTRAL.items() if name != "cache_strength"}  # which no setting tried changes
