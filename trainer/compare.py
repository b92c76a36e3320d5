"""`python -m trainer compare PLAN.toml`: several presets, the same books and seeds, equal processor time, one report.

Every stage of every run leaves a JSON file below `out`; what is there is not done again, so a comparison goes on
wherever it stopped, on another day too, and a run that fails is named in the report while the others go on. The files
are small and the report is made of nothing else: kept in a repository, they let anybody write it again. Weights and ids
stay in `work`. Time is processor time of the training process: other work on the machine must not decide a comparison.
Wall time is reported beside it.
"""

import argparse
import json
import logging
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial, reduce
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.checkpoint import Checkpoint, load_checkpoint
from core.errors import ConfigError, CorpusError, FablewrightError
from core.products import Precision
from core.requests import SamplingDefaults, sampling_params

from .choose_sampling import continued_statistics, human_statistics, room_for
from .devices import keep_freed_memory
from .evaluate import score_texts
from .floors import measure_floors
from .memory import Memory
from .presets import Options, as_arguments, changes, load_preset, read_experiment
from .report import write_report
from .samples import cut_passages, write_samples
from .split import split_named
from .text_statistics import TrainingBooks, first_words
from .tokens import stream_of
from .train import options_before

log = logging.getLogger(__name__)

Json = dict[str, Any]
Texts = dict[str, list[str]]

_PARTS = ("corpus", "valid", "test")
_MEASURED_WITH = {
    *("threads", "memory_words", "tune_tokens", "prompts", "temperatures", "sample_tokens"),
    *("passages", "prompt_words", "passage_words"),
}
_PRESET = "--preset"  # what stands before it on a command line is paths
_DECODED = {1: 1024, 64: 128}  # tokens by each of so many streams, to measure how fast they are written


class Run(BaseModel):
    """One contender: a preset, and options that go before its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    preset: str
    options: Options = {}


class Comparison(BaseModel):
    """A comparison. Paths are relative to the folder that the command runs in; times are in minutes.

    Figures and report go to `out`, checkpoints and whatever else training leaves to `work` (`out`, if not given).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    out: Path
    work: Path | None = None
    corpus: Path
    valid: Path
    test: Path
    minutes: float = Field(default=20, gt=0)
    threads: int = Field(default=2, ge=1)
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    runs: tuple[Run, ...] = Field(min_length=1)
    options: Options = {}
    memory: bool = True
    memory_words: int | None = Field(default=None, ge=100)  # of the test text, over all its books; None for all
    tune_tokens: int = Field(default=20_000, ge=100)
    prompts: tuple[str, ...] = Field(default=("Once upon a time",), min_length=1)
    temperatures: tuple[Annotated[float, Field(ge=0, le=2)], ...] = Field(default=(0.5, 0.8, 1.0), min_length=1)
    sample_tokens: int = Field(default=160, ge=1)
    passages: int = Field(default=64, ge=2)
    prompt_words: int = Field(default=50, ge=1)
    passage_words: int = Field(default=200, ge=10)

    @model_validator(mode="after")
    def _check(self) -> "Comparison":
        names = [run.name for run in self.runs]
        for what, values in (("names of runs", names), ("seeds", list(self.seeds))):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} must differ, or they would share a folder, got {values}")
        return self


def compare(args: argparse.Namespace) -> int:
    """Run the command; 1 where a run failed."""
    plan = read_plan(Path(args.plan))
    contenders = [] if args.report_only else _chosen(plan, args.only)
    _refuse_results_of_another(plan, whole=not args.report_only)
    keep_freed_memory()
    plan.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _stage(plan.out, "settings", lambda: _settings(plan))
    _run_all(plan, contenders)
    results = collect(plan)
    paths = write_report(plan.title, results, plan.out)
    print("\n".join(str(path) for path in paths))
    return 1 if any("failure" in run for run in results["runs"]) and not args.report_only else 0


def read_plan(path: Path) -> Comparison:
    """Read a PLAN.toml. Raises ConfigError that names every bad key and unknown preset."""
    plan = read_experiment(path, Comparison)
    for run in plan.runs:
        try:
            load_preset(run.preset)
        except ConfigError as error:
            raise ConfigError(f"{path}: run {run.name}: {error}") from None
    return plan


def _refuse_results_of_another(plan: Comparison, *, whole: bool) -> None:
    """Raise ConfigError where a contender was trained otherwise than the plan says now.

    `whole`: books and folders count too; a report may be written on another machine, where they are elsewhere.
    """
    _refuse_other_settings(plan)
    for run, seed in _contenders(plan):
        name = _folder_name(plan, run, seed)
        path = _result_of(plan.out / name, "train")
        if not path.exists():
            if whole:
                _refuse_run_of_other_minutes(plan, _work_folder(plan, name))
            continue
        result = _read(path)
        before, now = result["command"], _command(plan, run, seed)
        if not whole:
            before, now = (command[command.index(_PRESET) :] for command in (before, now))
        options = load_preset(run.preset)
        if before == now and result.get("preset_options", options) != options:
            before, now = (f"{run.preset} of {given}" for given in (result["preset_options"], options))
        if before != now:
            raise ConfigError(
                f"{path.parents[1]} holds results of another plan: trained by `{before}` but now by `{now}`; "
                f"delete it, and {_work_folder(plan, name)}, to have it made again, or name another `out` and `work`"
            )


def _refuse_run_of_other_minutes(plan: Comparison, folder: Path) -> None:
    """Raise ConfigError where a contender would go on with what was planned for another time."""
    before = options_before(folder).get("minutes", plan.minutes)
    if before != plan.minutes:
        raise ConfigError(
            f"{folder} holds a run that began with {before:g} minutes but now has {plan.minutes:g}; "
            "delete it to have it begun again, or name another `work`"
        )


def _refuse_other_settings(plan: Comparison) -> None:
    """Raise ConfigError where what is there was measured otherwise than the plan says now."""
    path = _result_of(plan.out, "settings")
    if path.exists() and (odd := changes(_read(path), _settings(plan))):
        raise ConfigError(f"{plan.out} holds results measured otherwise: {odd}; delete it, or name another `out`")


def _settings(plan: Comparison) -> Json:
    """What every contender is measured with, beside what is on its command line."""
    return plan.model_dump(mode="json", include=_MEASURED_WITH)


def collect(plan: Comparison) -> Json:
    """Gather what the stages have left so far, for the report."""
    runs = []
    for run, seed in _contenders(plan):
        name = _folder_name(plan, run, seed)
        runs.append({"name": name, "preset": run.preset} | _stages(plan.out / name))
    facts = {"minutes": plan.minutes, "corpus": str(plan.corpus)} | _settings(plan)
    return {"plan": facts, "runs": runs} | _stages(plan.out)


def _stages(folder: Path) -> Json:
    return {path.stem: _read(path) for path in sorted((folder / "stages").glob("*.json"))}


def _contenders(plan: Comparison) -> list[tuple[Run, int]]:
    return [(run, seed) for run in plan.runs for seed in plan.seeds]


def _chosen(plan: Comparison, names: Sequence[str] | None) -> list[tuple[Run, int]]:
    """The contenders of these names, all where none are given; their texts must be there."""
    known = [run.name for run in plan.runs]
    if unknown := sorted(set(names or ()) - set(known)):
        raise ConfigError(f"--only must name runs of the plan, which has {', '.join(known)}; got {', '.join(unknown)}")
    for text in (getattr(plan, part) for part in _PARTS):
        if not text.exists():
            raise ConfigError(f"expected a text file or a folder of them, found nothing: {text}")
    return [(run, seed) for run, seed in _contenders(plan) if not names or run.name in names]


def _run_all(plan: Comparison, contenders: Sequence[tuple[Run, int]]) -> None:
    """Take runs through their stages; one that fails leaves its reason in the place of a stage."""
    for run, seed in contenders:
        name = _folder_name(plan, run, seed)
        (plan.out / name / "stages" / "failure.json").unlink(missing_ok=True)
        try:
            _run_one(plan, run, seed, name)
        except Exception as error:  # one contender's failure must not lose the rest
            log.exception("run=%s failed", name)
            _keep(plan.out / name, "failure", {"message": str(error) or type(error).__name__})


def _run_one(plan: Comparison, run: Run, seed: int, name: str) -> None:
    out, work = plan.out / name, _work_folder(plan, name)
    _stage(out, "train", lambda: _train(plan, run, seed))
    due = {stage: measure for stage, measure in _measurements(plan).items() if not _result_of(out, stage).exists()}
    if not due:
        return
    checkpoint = load_checkpoint(work / "checkpoint")
    split = split_named(plan.corpus, plan.valid, plan.test)
    parts = {"corpus": split.train, "valid": split.valid, "test": split.test}
    texts = {part: [document.read() for document in documents] for part, documents in parts.items()}
    _stage(plan.out, "floors", lambda: _floors(texts, checkpoint))
    for stage, measure in due.items():
        _stage(out, stage, partial(measure, plan, texts, checkpoint))


def _measurements(plan: Comparison) -> dict[str, Callable[[Comparison, Texts, Checkpoint], Json]]:
    """What is measured of every trained contender, by stage; what takes longest comes last."""
    memory = {"memory": _memory} if plan.memory else {}
    return {"scores": _scores, "decode": _decode_speed, "samples": _samples, "statistics": _statistics, **memory}


def _stage(folder: Path, name: str, work: Callable[[], Json]) -> None:
    """Do a stage, unless its result is there."""
    if _result_of(folder, name).exists():
        return
    log.info("folder=%s stage=%s", folder.name, name)
    _keep(folder, name, work())


def _result_of(folder: Path, stage: str) -> Path:
    return folder / "stages" / f"{stage}.json"


def _keep(folder: Path, name: str, result: Json) -> None:
    path = _result_of(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")  # another contender may be run beside this one
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def _arguments(plan: Comparison, run: Run, seed: int) -> list[str]:
    """What comes after `python` to train a contender."""
    folder = _work_folder(plan, _folder_name(plan, run, seed))
    return [
        *("-m", "trainer", "train", str(plan.corpus)),
        *("--valid", str(plan.valid), "--test", str(plan.test), "--out", str(folder), _PRESET, run.preset),
        *("--minutes", str(plan.minutes), "--clock", "processor", "--seed", str(seed), "--resume", "--quiet"),
        *as_arguments({**plan.options, **run.options}),
    ]


def _command(plan: Comparison, run: Run, seed: int) -> str:
    return " ".join(["python", *_arguments(plan, run, seed)])


def _train(plan: Comparison, run: Run, seed: int) -> Json:
    """Train in a process of its own, or go on with one that was interrupted."""
    folder = _work_folder(plan, _folder_name(plan, run, seed))
    arguments = [sys.executable, *_arguments(plan, run, seed)]
    began = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": str(plan.threads)}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate()
    except BaseException:
        process.terminate()  # it saves where it is
        raise
    finally:
        process.wait()
        wall_s = _add_wall_time(folder, time.monotonic() - began)
    if process.returncode != 0:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise CorpusError(f"training ended with status {process.returncode}: {last}")
    facts = load_checkpoint(folder / "checkpoint").config
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "architecture": facts.architecture,
        "parameters": facts.training["parameters"],
        "train_tokens": facts.training["corpus"]["train"]["tokens"],
        "tokens": history[-1]["tokens"],
        "steps": history[-1]["step"],
        "seconds": history[-1]["seconds"],
        "wall_s": wall_s,
        "history": history,
        "command": _command(plan, run, seed),
        "preset_options": load_preset(run.preset),
    }


def _add_wall_time(folder: Path, seconds: float) -> float:
    """Add up wall time over interrupted sessions."""
    path = folder / "wall.json"
    total = seconds + (float(_read(path)["seconds"]) if path.exists() else 0.0)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seconds": total}) + "\n", encoding="utf-8")
    return total


def _floors(texts: Texts, checkpoint: Checkpoint) -> Json:
    return {part: measure_floors(texts["corpus"], texts[part], checkpoint.tokenizer) for part in ("valid", "test")}


def _scores(_: Comparison, texts: Texts, checkpoint: Checkpoint) -> Json:
    """Score validation and test text whole, and of the training text the beginnings, as long as validation in all."""
    valid_words = sum(len(text.split()) for text in texts["valid"])
    share = valid_words // len(texts["corpus"]) + 1
    parts = {
        "train": [first_words(book, share) for book in texts["corpus"]],
        "valid": texts["valid"],
        "test": texts["test"],
    }
    every = [text for read in parts.values() for text in read]  # side by side: weights come from memory once a step
    scores = iter(score_texts(checkpoint.model, checkpoint.tokenizer, every))
    sums = {part: reduce(operator.add, islice(scores, len(read))) for part, read in parts.items()}
    return {part: score.report(checkpoint.tokenizer) for part, score in sums.items()}


def _memory(plan: Comparison, texts: Texts, checkpoint: Checkpoint) -> Json:
    """Measure the test text, or the beginning of each of its books, with memory chosen on validation text."""
    tokenizer, books = checkpoint.tokenizer, texts["test"]
    if plan.memory_words is not None:
        books = [first_words(book, max(1, plan.memory_words // len(books))) for book in books]
    ids = stream_of(texts["valid"], tokenizer)
    memory = Memory(checkpoint.model, ids, tune_tokens=plan.tune_tokens, cache=True, dynamic=True)
    return memory.figures(stream_of(books, tokenizer), books, tokenizer)


def _decode_speed(_plan: Comparison, _texts: Texts, checkpoint: Checkpoint) -> Json:
    """Tokens a second for one stream and for 64 together: by the int8 decoder where it knows the architecture."""
    speeds = {}
    for streams, tokens in _DECODED.items():
        written, seconds = _write(checkpoint, streams, tokens)
        first, preparing = _write(checkpoint, streams, 1)  # packing the weights is none of its speed
        speeds[str(streams)] = (written - first) / max(seconds - preparing, 1e-3)
    return speeds


def _write(checkpoint: Checkpoint, streams: int, tokens: int) -> tuple[int, float]:
    """How many tokens so many streams wrote, and in what processor time."""
    precision: Precision | None = "int8" if hasattr(checkpoint.model, "recurrent_weights") else None
    params = [sampling_params(SamplingDefaults(max_tokens=tokens), seed=seed) for seed in range(streams)]
    began = time.process_time()
    samples = write_samples(checkpoint.model, checkpoint.tokenizer, [""] * streams, params, precision=precision)
    seconds = time.process_time() - began
    return sum(len(checkpoint.tokenizer.encode(sample.text)) for sample in samples), seconds


def _samples(plan: Comparison, _: Texts, checkpoint: Checkpoint) -> Json:
    """Write on from the plan's prompts, with the same seeds at each temperature."""
    results = {}
    for temperature in plan.temperatures:
        defaults = SamplingDefaults(temperature=temperature, max_tokens=plan.sample_tokens)
        params = [sampling_params(defaults, seed=seed) for seed in range(len(plan.prompts))]
        samples = write_samples(checkpoint.model, checkpoint.tokenizer, plan.prompts, params)
        results[str(temperature)] = [sample.text for sample in samples]
    return results


def _statistics(plan: Comparison, texts: Texts, checkpoint: Checkpoint) -> Json:
    """Measure continuations of validation text by the model, at the default settings, and by its authors."""
    passages = cut_passages(
        texts["valid"],
        prompt_words=plan.prompt_words,
        words=plan.passage_words,
        count=plan.passages,
    )
    books = TrainingBooks(texts["corpus"])
    defaults = SamplingDefaults(max_tokens=room_for(passages, checkpoint.tokenizer))
    params = [sampling_params(defaults, seed=seed) for seed in range(len(passages))]
    model = continued_statistics(checkpoint, passages, books, params, words=plan.passage_words)
    return {"human": asdict(human_statistics(checkpoint, passages, books)), "model": asdict(model)}


def _work_folder(plan: Comparison, name: str) -> Path:
    return (plan.work or plan.out) / name


def _folder_name(plan: Comparison, run: Run, seed: int) -> str:
    return run.name if len(plan.seeds) == 1 else f"{run.name}-seed{seed}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FablewrightError(f"{path}: not valid JSON: {error}; delete it to have it made again") from None
