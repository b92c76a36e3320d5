"""`python -m trainer train`: from a folder of books to a checkpoint."""

import argparse
import json
import logging
import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from core.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from core.errors import ConfigError, CorpusError
from core.models import build_model
from core.novelty import NoveltyIndex
from core.tokenizer import TokenizerKind

from . import distributed
from .batches import build_batches
from .card import model_card
from .conclude import METHOD, measure, sample
from .corpus import Document, read_documents, utf8
from .devices import choose_arithmetic, find_device, keep_freed_memory
from .initialise import initialise
from .loop import Loop, LoopSettings
from .loss import HAS_TRITON
from .plan import Plan, Wishes, make_plan, measure_flops
from .prepare import Data, count_closed, is_prepared, oov_rates, open_data, prepare, table
from .presets import changes
from .progress import Progress
from .resume import forget, saved_state
from .schedule import CLOCKS, Clock, peak_rate
from .split import Split, leave_out, split_contiguous, split_files, split_named
from .start import SIZES, bytes_per_token, choose_start, lineage, load_start, read_before
from .validate import Validation, validate

log = logging.getLogger(__name__)

_TRANSFORMER_LEARNING_RATE = 1e-3  # at its peak
_LATER_LEARNING_RATE = 5e-4  # of a model that has learned before
_MINUTES = 30.0  # if nothing is said
_MAY_CHANGE = {  # when a run is resumed: how long it goes on, where, and what it shows
    *("resume", "minutes", "clock", "steps", "stop_at_step", "patience", "validations"),
    *("device", "bfloat16", "int8", "name", "save_bfloat16", "tensorboard", "quiet", "command_line", "out"),
}


def train(args: argparse.Namespace) -> int:
    """Run the command; 0 when the run is finished, 1 when it was interrupted and can be resumed."""
    keep_freed_memory()
    for part in ("corpus", "valid", "test", "pretrain"):
        path = getattr(args, part)
        setattr(args, part, path and str(Path(path)))  # a slash at its end makes no other run
    device = distributed.start(find_device(args.device))
    args.bfloat16, args.int8 = choose_arithmetic(device, bfloat16=args.bfloat16, int8=args.int8)
    try:
        with _alone_in(Path(args.out)) if distributed.rank() == 0 else nullcontext():
            status = _train(args, device, began=CLOCKS[args.clock]())
        distributed.barrier()  # or gloo's threads may still hold tensors of the last sum when Python ends, and abort
        return status
    finally:
        distributed.stop()


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder. Raises ConfigError where one trains there already."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"{out}: another process trains in this folder; wait for its end, or name another") from None


def _train(args: argparse.Namespace, device: torch.device, *, began: float) -> int:
    out = Path(args.out)
    is_first = distributed.rank() == 0
    before = options_before(out) if args.resume else {}
    if args.minutes is None and args.steps is None:
        args.steps = before.get("steps")
    if args.minutes is None:
        args.minutes = before.get("minutes", _MINUTES)
    if is_first:
        if args.resume and is_prepared(out / "data"):
            _refuse_other_options(args, out)
            _note_options(args, out)
        else:
            _lay_out(args, out, device)
    distributed.barrier()
    data, plan = open_data(out / "data"), Plan(**json.loads((out / "plan.json").read_text(encoding="utf-8")))
    plan = replace(plan, vocab_size=data.tokenizer.vocab_size)  # larger or smaller where the books' characters want it
    if is_first:
        print(table(data), plan.describe(args.minutes, args.steps), sep="\n", flush=True)
    loop, progress = _build(args, out, data, plan, device, began)
    if args.resume and loop.load():
        log.info("resumed step=%d seconds=%.0f", loop.step, loop.clock.seconds())
    try:
        finished = loop.run(stop_at_step=args.stop_at_step)
    finally:
        progress.close()
    if finished:
        _conclude(args, out, data, loop, device)
    if is_first:
        print(f"finished: {out / 'checkpoint'}" if finished else f"interrupted, go on with --resume: {out}")
    return 0 if finished else 1


def _lay_out(args: argparse.Namespace, out: Path, device: torch.device) -> None:
    """Read and split the books, make the plan, learn the vocabulary and write the ids."""
    split = _split(args)
    held_out = [document.path for document in split.valid + split.test]
    pretrain = leave_out(read_documents(args.pretrain), held_out) if args.pretrain else []
    if args.pretrain and not pretrain:
        raise CorpusError(f"expected other books in {args.pretrain}, but all of them hold validation or test text")
    start = choose_start(args, split.train)
    if start is not None and start.path.is_relative_to(out.resolve()):
        raise ConfigError(
            f"--from must be another folder than --out, which is begun anew: {out}; --resume goes on in it"
        )
    plan = _plan(args, split.train, pretrain, start, device)
    forget(out / "resume")  # of an earlier run: `--resume` must not take it for this one
    _note_options(args, out)
    (out / "plan.json").write_text(json.dumps(asdict(plan)) + "\n", encoding="utf-8")
    prepare(
        out / "data",
        split,
        pretrain,
        tokenizer=None if start is None else start.tokenizer,
        vocab_size=plan.vocab_size,
        kind=_tokenizer_kind(args),
        min_count=args.min_count,
    )


def _plan(
    args: argparse.Namespace,
    train: list[Document],
    pretrain: list[Document],
    start: Checkpoint | None,
    device: torch.device,
) -> Plan:
    """Fill in what the command line leaves open, from the books and the measured speed of this machine."""
    books = train + pretrain
    sizes = {size: getattr(args, size) if start is None else start.config.model[size] for size in SIZES}
    architecture = args.architecture or "awd_lstm" if start is None else start.config.architecture
    corpus_bytes, bytes_each = sum(document.size for document in books), None
    kind = _tokenizer_kind(args)
    if start is not None:
        bytes_each = bytes_per_token(start.tokenizer, books)
    elif kind in ("word", "char") and sizes["vocab_size"] is None:
        learned_from = train if kind == "word" else books
        sizes["vocab_size"], tokens = count_closed(learned_from, kind, args.min_count)
        bytes_each = sum(document.size for document in learned_from) / max(1, tokens)
    wishes = Wishes(**sizes, dropout=args.dropout, lanes=args.lanes, bptt=args.bptt)
    if wishes.are_complete:
        plan = wishes.fixed()
    else:
        arithmetic = {"bfloat16": args.bfloat16, "int8": args.int8}
        processes, now = distributed.world_size(), CLOCKS[args.clock]
        flops = measure_flops(architecture, device, **arithmetic, processes=processes, now=now)
        plan = make_plan(
            wishes,
            architecture=architecture,
            corpus_bytes=corpus_bytes,
            seconds=60 * args.minutes,
            flops=flops,
            bytes_per_token=bytes_each,
            has_learned=start is not None and not pretrain,
        )
    return plan if start is None else replace(plan, start=str(start.path))


def _tokenizer_kind(args: argparse.Namespace) -> TokenizerKind:
    return args.tokenizer or "unigram"


def _deciding(args: argparse.Namespace) -> dict[str, Any]:
    """The options that make a run what it is."""
    return {name: value for name, value in sorted(vars(args).items()) if name not in _MAY_CHANGE}


def _note_options(args: argparse.Namespace, out: Path) -> None:
    """Leave what makes this run what it is, and how long it goes on, for whoever resumes it."""
    options = _deciding(args) | {"minutes": args.minutes, "steps": args.steps}
    if options_before(out) != options:
        aside = out / "options.json.new"
        aside.write_text(json.dumps(options) + "\n", encoding="utf-8")
        aside.replace(out / "options.json")


def options_before(out: Path) -> dict[str, Any]:
    """What the run in this folder began with, and how long it was to go on; empty where there was none."""
    path = out / "options.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _refuse_other_options(args: argparse.Namespace, out: Path) -> None:
    """Raise ConfigError where a run is to go on as what it did not begin as."""
    if odd := changes(options_before(out), _deciding(args)):
        raise ConfigError(f"{out} began with other options, so --resume cannot go on with these: {odd}")


def _split(args: argparse.Namespace) -> Split:
    if args.valid:
        return split_named(Path(args.corpus), Path(args.valid), Path(args.test) if args.test else None)
    if args.test:
        raise CorpusError("--test goes with --valid: without it the corpus is split by --split, test text and all")
    documents = read_documents(args.corpus)
    return (split_files if args.split_files else split_contiguous)(documents, _shares(args.split))


def _shares(text: str) -> tuple[float, float, float]:
    try:
        train, valid, test = (float(part) for part in text.split("/"))
    except ValueError:
        raise CorpusError(f"--split must be three shares such as 70/15/15, got {text!r}") from None
    total = train + valid + test
    if not (min(train, valid) > 0 and test >= 0 and total < math.inf):
        raise CorpusError(f"--split must give training and validation a share above 0, got {text!r}")
    return train / total, valid / total, test / total


def _build(
    args: argparse.Namespace, out: Path, data: Data, plan: Plan, device: torch.device, began: float
) -> tuple[Loop, Progress]:
    rank = distributed.rank()
    torch.manual_seed(args.seed)
    start = None if plan.start is None else load_start(plan.start)
    architecture = start.config.architecture if start else args.architecture or "awd_lstm"
    config = (start.config.model if start else {}) | _model_config(args, data, plan, architecture)
    model = build_model(architecture, config)
    if start is not None:
        model.load_state_dict(start.model.state_dict())
    elif not (args.resume and saved_state(out / "resume")):
        initialise(model, data, args.init)
    model.to(device)
    torch.manual_seed(args.seed + 1000 * rank)  # the processes begin alike and drop out differently
    batches = build_batches(
        data,
        lanes=plan.lanes,
        bptt=plan.bptt,
        pretrain_share=args.pretrain_share,
        seed=args.seed,
        aligned=device.type == "cuda" and HAS_TRITON and not args.variable_bptt,
    )
    settings = LoopSettings(
        bptt=plan.bptt,
        variable_bptt=args.variable_bptt,
        optimizer=args.optimizer,
        averaging=args.averaging,
        learning_rate=args.learning_rate or _learning_rate(architecture, start, args.steps or plan.updates),
        weight_decay=args.weight_decay,
        beta1=args.beta1,
        beta2=args.beta2,
        clip=args.clip,
        activation_penalty=args.activation_penalty,
        slowness_penalty=args.slowness_penalty,
        schedule=args.schedule,
        plateau_factor=args.plateau_factor,
        dropout_from=args.pretrain_share if args.pretrain else 0.0,
        dropout_before=args.pretrain_dropout,
        patience=args.patience,
        validations=args.validations,
        validate_tokens=args.validate_tokens,
        bfloat16=args.bfloat16,
        int8=args.int8,
        seed=args.seed,
    )
    progress = Progress(
        is_shown=rank == 0 and not args.quiet,
        tensorboard=out / "tensorboard" if rank == 0 and args.tensorboard else None,
    )

    before = _facts_before(start, data)
    if rank == 0 and (known := before.get("read_before")):
        name = before["start"]["name"]
        log.warning("%s has read held-out books, and will look too good on them: %s", name, ", ".join(known))
    novelty = NoveltyIndex.load(out / "data")

    def on_best(validation: Validation) -> None:
        facts = before | _training_facts(args, data, plan, loop, validation)
        save_checkpoint(
            out / "checkpoint",
            model=model,
            tokenizer=data.tokenizer,
            config=CheckpointConfig(architecture=architecture, model=config, training=facts),
            card=model_card(args.name or out.name, facts),
            novelty=novelty,
            dtype=_stored_dtype(args),
        )

    loop = Loop(
        model,
        batches,
        settings,
        Clock(
            steps=args.steps or plan.steps,
            minutes=None if args.steps else args.minutes,
            now=CLOCKS[args.clock],
            started=began,  # laying out the data and measuring count as well
        ),
        lanes=batches.lanes // distributed.world_size(),
        folder=out / "resume",
        validate=lambda most: validate(model, data, "valid", most=most, bfloat16=args.bfloat16),
        on_best=on_best,
        report=progress,
    )
    return loop, progress


def _learning_rate(architecture: str, start: Checkpoint | None, updates: float | None) -> float:
    if start is not None:
        return _LATER_LEARNING_RATE
    if architecture == "transformer":
        return _TRANSFORMER_LEARNING_RATE
    return peak_rate(updates)


def _conclude(args: argparse.Namespace, out: Path, data: Data, loop: Loop, device: torch.device) -> None:
    """Measure the best checkpoint on the whole held-out splits and say so in its config and its card.

    Raises CorpusError where the run could keep none: what lies in its place is an earlier run's.
    """
    if loop.best == math.inf:
        raise CorpusError(f"{out}: this run could keep no checkpoint, see above; --resume tries once more")
    best = load_checkpoint(out / "checkpoint")
    if "results" in best.config.training:
        return  # a finished run that went on and found nothing better
    measured = measure(best.model.to(device), data, most=loop.measurable(), bfloat16=args.bfloat16)
    if distributed.rank() > 0:
        return
    results = {part: asdict(validation) for part, validation in measured.items()}
    facts = best.config.training | {"results": results, "results_method": METHOD, "sample": sample(best)}
    save_checkpoint(
        out / "checkpoint",
        model=best.model,
        tokenizer=best.tokenizer,
        config=replace(best.config, training=facts),
        card=model_card(args.name or out.name, facts),
        novelty=best.novelty,
        dtype=_stored_dtype(args),
    )


def _stored_dtype(args: argparse.Namespace) -> torch.dtype:
    return torch.bfloat16 if args.save_bfloat16 else torch.float32


def _model_config(args: argparse.Namespace, data: Data, plan: Plan, architecture: str) -> dict[str, Any]:
    sizes = {
        "vocab_size": data.tokenizer.vocab_size,
        "document_id": data.tokenizer.document_id,
        "embedding_size": plan.embedding_size,
        "hidden_size": plan.hidden_size,
        "layers": plan.layers,
    }
    if architecture in ("lstm", "transformer"):
        return sizes | {"dropout": plan.dropout}
    dropouts = dict.fromkeys(("input", "hidden", "output", "weight"), plan.dropout) | {"embedding": plan.dropout / 4}
    asked = {place: getattr(args, f"{place}_dropout") for place in dropouts}
    dropouts |= {place: value for place, value in asked.items() if value is not None}
    return sizes | {f"{place}_dropout": value for place, value in dropouts.items()}


def _facts_before(start: Checkpoint | None, data: Data) -> dict[str, Any]:
    """What config.json and the model card say that stands before the first step."""
    rates = oov_rates(data)
    facts: dict[str, Any] = {"oov_rates": rates} if rates else {}
    if start is not None:
        known = read_before(start, data.books)
        facts |= {"start": lineage(start)} | ({"read_before": known} if known else {})
    return facts


def _training_facts(args: argparse.Namespace, data: Data, plan: Plan, loop: Loop, valid: Validation) -> dict[str, Any]:
    """What config.json and the model card say about the run."""
    return {
        "command": "python -m trainer " + utf8(shlex.join(args.command_line)),
        "processes": distributed.world_size(),
        "int8": args.int8,
        "corpus": {name: asdict(counts) for name, counts in data.counts.items()},
        "books": data.books,
        "parameters": sum(parameter.numel() for parameter in loop.model.parameters()),
        "plan": asdict(replace(plan, start=None)),
        "steps": loop.step,
        "tokens": loop.tokens,
        "seconds": round(loop.clock.seconds()),
        "seed": args.seed,
        "valid": asdict(valid),
        "history": loop.history,
    }
