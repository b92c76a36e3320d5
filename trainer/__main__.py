"""The command line of everything that makes and measures checkpoints: `python -m trainer COMMAND …`."""

import argparse
import logging
import math
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from core.errors import FablewrightError

from .presets import expand_preset

# Each command's module and function, loaded when it is asked for: `fetch` needs no torch.
_COMMANDS = {
    "train": "train.train",
    "eval": "evaluate.evaluate",
    "compare": "compare.compare",
    "sampling": "choose_sampling.sampling",
    "tune": "tune.tune",
    "floors": "commands.floors",
    "index": "commands.index",
    "fetch": "commands.fetch",
    "clean": "commands.clean",
}

_TORCH_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory")  # on a GPU, on a processor: a RuntimeError


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run one command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files need not be UTF-8
    try:
        args = _parser().parse_args(expand_preset(arguments))
        args.command_line = arguments
        module, function = _COMMANDS[args.command].split(".")
        return int(getattr(import_module(f".{module}", __package__), function)(args))
    except (FablewrightError, OSError) as error:  # OSError: a full disk, a folder that is closed to us
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _TORCH_OUT_OF_MEMORY.search(str(error))):
            raise
        print(f"error: out of memory, smaller sizes or fewer --lanes need less: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:  # what only training needs is not installed for serving
        print(f"error: {error}; pip install -e '.[train]' installs what the trainer needs", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """Takes no abbreviations: a preset is looked for by the whole name of its option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    _add_train(commands.add_parser("train", help="train a language model on books"))
    _add_eval(commands.add_parser("eval", help="measure a checkpoint on texts"))
    _add_experiments(commands)
    _add_corpus_tools(commands)
    return parser


def _number(
    kind: type[float], low: float, high: float = math.inf, *, below: float = math.inf
) -> Callable[[str], float]:
    """Read a number from `low` to `high`, or below another, and refuse the rest in a way that argparse shows."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and value < below):
            name = "a whole number" if kind is int else "a number"
            limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            limits += f" and below {below:g}" if math.isfinite(below) else ""
            raise argparse.ArgumentTypeError(f"expected {name} {limits}, got {text!r}")
        return value

    return read


_COUNT, _SHARE, _PART, _POSITIVE, _NOT_NEGATIVE = (
    _number(int, 1),
    _number(float, 0, 1),
    _number(float, 0, below=1),  # what a whole would leave nothing of
    _number(float, 1e-6),
    _number(float, 0),
)
_FLAG = argparse.BooleanOptionalAction  # what a preset may say true or false of


def _add_eval(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint")
    add("texts", nargs="+", metavar="TEXT")
    add("--cache", action="store_true", help="also with a neural cache; needs --tune-on")
    add("--dynamic", action="store_true", help="also with dynamic evaluation; needs --tune-on")
    add(
        "--segment",
        type=_COUNT,
        default=20,
        help="tokens that dynamic evaluation reads before each step: fewer learn sooner and take longer",
    )
    add("--tune-on", metavar="TEXT", help="validation text on which the memory's settings are chosen")
    add(
        "--tune-tokens",
        type=_number(int, 100),
        default=20_000,
        help="on how much of it, at most; dynamic evaluation reads more to know how large gradients are",
    )
    add("--json", action="store_true", help="print one JSON object")
    add("--device", default="cpu")


def _add_experiments(commands: "argparse._SubParsersAction[_Parser]") -> None:
    compare = commands.add_parser("compare", help="train several presets for equal processor time and report")
    compare.add_argument("plan", metavar="PLAN.toml")
    compare.add_argument("--only", action="append", metavar="NAME", help="run this contender alone; may be given again")
    compare.add_argument("--report-only", action="store_true", help="write the report from what is there")
    tune = commands.add_parser("tune", help="search for better options with Optuna; resumable, several workers")
    tune.add_argument("plan", metavar="SEARCH.toml")
    tune.add_argument("--trials", type=_COUNT, default=20, help="how many this worker tries")
    floors = commands.add_parser("floors", help="baselines: what n-grams and compressors make of a text")
    floors.add_argument("training", help="the text they have read")
    floors.add_argument("texts", nargs="+", metavar="TEXT")
    floors.add_argument("--tokenizer", required=True, help="a checkpoint whose tokens the n-grams are made of")
    floors.add_argument("--json", action="store_true", help="print one JSON object")
    sampling = commands.add_parser("sampling", help="compare sampling settings with human text")
    sampling.add_argument("checkpoint")
    sampling.add_argument("--books", required=True, help="the training text, to tell what is copied")
    sampling.add_argument("--pretrain", help="other books it has read: a word that stands in none is a new one")
    sampling.add_argument("--held-out", required=True, help="text the model has not seen")
    sampling.add_argument("--passages", type=_number(int, 2), default=64)
    sampling.add_argument("--prompt-words", type=_COUNT, default=50)
    sampling.add_argument("--words", type=_number(int, 10), default=200, help="length of each continuation")


def _add_corpus_tools(commands: "argparse._SubParsersAction[_Parser]") -> None:
    fetch = commands.add_parser("fetch", help="download public-domain books")
    fetch.add_argument("source", choices=("gutenberg",))
    fetch.add_argument("numbers", nargs="+", type=int, metavar="ID", help="e-book numbers")
    fetch.add_argument("--out", required=True, help="folder for the books and their manifest.tsv")
    fetch.add_argument("--mirror", help="another site laid out like gutenberg.org")
    clean = commands.add_parser("clean", help="make a corpus of .txt files as they come")
    clean.add_argument("source", help="a .txt file or a folder of them")
    clean.add_argument("out", help="folder for the cleaned copies")
    clean.add_argument("--encoding", default="windows-1252", help="of lines that are no UTF-8, such as windows-1251")
    for step in ("entities", "joined-lines", "plain-punctuation", "drop-duplicates"):
        clean.add_argument(f"--{step}", action=_FLAG, default=True)
    index = commands.add_parser("index", help="write the novelty index of the training books into a checkpoint")
    index.add_argument("checkpoint")
    index.add_argument("corpus")


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("corpus", help="a text file, or a folder of .txt files")
    add(
        "--out",
        required=True,
        help="folder of the run: data, resume state, checkpoint; one that is there is begun anew, unless with --resume",
    )
    add("--name", help="name on the model card; the folder's if not given")
    add("--preset", help="options from trainer/presets, or from a .toml file; what else is given overrides them")
    add(
        "--minutes",
        type=_number(float, 1e-6, 1e6),
        help="how long the whole run may take; 30 if not given, or what a run that is resumed was given",
    )
    add("--clock", default="wall", choices=("wall", "processor"), help="how the minutes are counted")
    add("--steps", type=_COUNT, help="a number of steps instead of a time")
    add("--stop-at-step", type=_number(int, 0), help="stop here and save, as a signal would")
    add(
        "--resume", action="store_true", help="go on where an earlier run in --out stopped, for as long as it was given"
    )
    add(
        "--from",
        metavar="CHECKPOINT",
        help="a trained model to go on from, or `nothing`; if not given, the one that ships, where its vocabulary fits "
        "the books, it has read more than they hold, and no other network is asked for (every preset that ships does)",
    )
    add("--split", default="70/15/15", help="shares of training, validation and test text")
    add("--split-files", action=_FLAG, default=False, help="split by whole files, at least one for each part")
    add("--valid", help="file or folder of validation text, instead of a split")
    add("--test", help="file or folder of test text")
    add("--pretrain", help="file or folder of other books to learn from first")
    add(
        "--pretrain-share",
        type=_number(float, 0.01, 0.99),
        default=0.65,
        help="share of the run before the corpus itself comes in",
    )
    add("--pretrain-dropout", type=_SHARE, default=0.3, help="what dropout is multiplied by until then")
    add("--tokenizer", choices=("unigram", "bpe", "char", "word"), help="unigram if not given")
    add("--vocab-size", type=_COUNT, help="pieces; planned if not given, all there are with --tokenizer word or char")
    add("--min-count", type=_COUNT, default=1, help="with --tokenizer word: those rarer in training text are unknown")
    add("--architecture", choices=("awd_lstm", "lstm", "mogrifier", "transformer"), help="awd_lstm if not given")
    add("--embedding-size", type=_COUNT, help="width; planned if not given")
    add("--hidden-size", type=_COUNT, help="width; planned if not given")
    add("--layers", type=_COUNT, help="planned if not given")
    add(
        "--init",
        default="company",
        choices=("company", "frequencies", "random"),
        help="what new weights begin with (not a model gone on from): which pieces keep company and how frequent each "
        "is, the latter, or nothing",
    )
    add("--dropout", type=_PART, help="planned if not given")
    for place in ("embedding", "input", "hidden", "output", "weight"):
        add(f"--{place}-dropout", type=_PART, help="instead of what follows from --dropout")
    add("--lanes", type=_COUNT, help="batch size: streams read side by side, over all processes; planned if not given")
    add("--bptt", type=_COUNT, help="window of truncated back-propagation, in tokens; planned if not given")
    add("--variable-bptt", action=_FLAG, default=False, help="windows of random length")
    add("--optimizer", default="adamw", choices=("adamw", "sgd"))
    add("--averaging", action=_FLAG, default=False, help="keep the mean of the weights")
    add(
        "--learning-rate",
        type=_POSITIVE,
        help="at its peak; if not given 1e-2 for 1,500 steps, less for more, at least 5e-3; 1e-3 for a transformer, "
        "and 5e-4 for a model that has learned before",
    )
    add("--weight-decay", type=_NOT_NEGATIVE, default=0.05)
    add("--beta1", type=_PART, default=0.9)
    add("--beta2", type=_PART, default=0.99)
    add("--clip", type=_POSITIVE, default=1.0, help="longest gradient")
    add("--activation-penalty", type=_NOT_NEGATIVE, default=0.0, help="AR of AWD-LSTM")
    add("--slowness-penalty", type=_NOT_NEGATIVE, default=0.0, help="TAR of AWD-LSTM")
    add("--schedule", default="one-cycle", choices=("one-cycle", "plateau", "constant"))
    add("--plateau-factor", type=_SHARE, default=0.5, help="what plateau multiplies the rate by after an epoch in vain")
    add("--patience", type=_COUNT, help="stop after this many validations without improvement")
    add("--validations", type=_COUNT, default=25)
    add("--validate-tokens", type=_COUNT, help="that each of them reads; as many as time allows, if not given")
    add("--seed", type=_number(int, 0, 2**53 - 1), default=1)
    add("--device", default="cpu")
    add(
        "--bfloat16",
        action=_FLAG,
        help="matrix products in bfloat16; if not said, where it is fast",
    )
    add(
        "--int8",
        action=_FLAG,
        help="those of training in int8, as far as they are the softmax's or awd_lstm's layers'; if not said, where it "
        "is fast, but not with --no-bfloat16",
    )
    add("--save-bfloat16", action=_FLAG, default=False, help="store weights as bfloat16: half the size")
    add("--tensorboard", action=_FLAG, default=False)
    add("--quiet", action=_FLAG, default=False)


if __name__ == "__main__":
    sys.exit(main())
