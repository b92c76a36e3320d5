"""The command line: `python -m trainer train CORPUS --out DIR`, `python -m trainer eval CHECKPOINT TEXT...`."""

import argparse
import logging
import sys

from core.errors import FablewrightError


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run one command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    args.command_line = arguments
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        if args.command == "train":
            from .train import train

            return train(args)
        from .evaluate import evaluate

        return evaluate(args)
    except FablewrightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands.add_parser("train", help="train a language model on books"))
    evaluate = commands.add_parser("eval", help="measure a checkpoint on texts")
    evaluate.add_argument("checkpoint")
    evaluate.add_argument("texts", nargs="+", metavar="TEXT")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_argument("--device", default="cpu")
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("corpus", help="a text file, or a folder of .txt files")
    add("--out", required=True, help="folder of the run: data, resume state, checkpoint")
    add("--name", help="name on the model card; the folder's if not given")
    add("--minutes", type=float, default=30.0, help="how long the whole run may take")
    add("--steps", type=int, help="a number of steps instead of a time")
    add("--stop-at-step", type=int, help="stop here and save, as a signal would")
    add("--resume", action="store_true", help="go on where an earlier run in --out stopped")
    add("--split", default="70/15/15", help="shares of training, validation and test text")
    add("--split-files", action="store_true", help="split by whole files")
    add("--valid", help="file or folder of validation text, instead of a split")
    add("--test", help="file or folder of test text")
    add("--pretrain", help="file or folder of other books to learn from first")
    add("--pretrain-share", type=float, default=0.65, help="share of the run before the corpus itself comes in")
    add("--pretrain-dropout", type=float, default=0.3, help="what dropout is multiplied by until then")
    add("--tokenizer", default="unigram", choices=("unigram", "bpe", "char", "word"))
    add("--vocab-size", type=int, help="pieces; planned if not given")
    add("--architecture", default="awd_lstm", choices=("awd_lstm", "lstm"))
    add("--embedding-size", type=int, help="width; planned if not given")
    add("--hidden-size", type=int, help="width; planned if not given")
    add("--layers", type=int, help="planned if not given")
    add("--dropout", type=float, help="planned if not given")
    add("--lanes", type=int, help="streams read side by side, over all processes; planned if not given")
    add("--bptt", type=int, default=64, help="tokens a window")
    add("--learning-rate", type=float, default=2.5e-3)
    add("--schedule", default="one-cycle", choices=("one-cycle", "plateau"))
    add("--patience", type=int, help="stop after this many validations without improvement")
    add("--validations", type=int, default=25)
    add("--seed", type=int, default=1)
    add("--device", default="cpu")
    add("--bfloat16", action=argparse.BooleanOptionalAction, default=True, help="matrix products in bfloat16")
    add("--save-bfloat16", action="store_true", help="store weights as bfloat16: half the size")
    add("--tensorboard", action="store_true")
    add("--quiet", action="store_true")


if __name__ == "__main__":
    sys.exit(main())
