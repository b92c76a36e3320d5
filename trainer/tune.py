"""`python -m trainer tune SEARCH.toml`: a search for better training options with Optuna.

Trials stand in a database (PostgreSQL at DATABASE_URL, or a SQLite file beside the results), so a search goes on
wherever it stopped and any number of workers, on any machines that reach the database, share it. A trial trains in a
process of its own; its validations are watched as they come, and it is stopped where others at the same point did
better. The best options are written as a preset that `train --preset` takes.
"""

import argparse
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
import sqlalchemy as sa
from filelock import FileLock
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from core.errors import ConfigError, CorpusError, StoreError

from .presets import Options, as_arguments, changes, load_preset, read_experiment, refuse_given

log = logging.getLogger(__name__)

_VOCABULARY = {"vocab_size", "min_count", "tokenizer"}
_POLL_S = 0.5
_POINTS = 25  # of a trial's time, at which it can be compared with others
_VALIDATED = 8192  # held-out tokens at each of them: the same ones, however fast a trial is
_SCHEMA = "fablewright_tune"
_LOCK = 0x66775F74  # a number that only this means


class Real(BaseModel):
    """A number between two others, on a logarithmic scale where `log` says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["real"]
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Real":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low must be below high, and above 0 on a log scale, got {self.low:g} and {self.high:g}")
        return self

    def suggest(self, trial: optuna.Trial, name: str) -> float:
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Whole(BaseModel):
    """A whole number from `low` to `high` in steps of `step`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["whole"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "Whole":
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got {self.low} and {self.high}")
        return self

    def suggest(self, trial: optuna.Trial, name: str) -> int:
        return trial.suggest_int(name, self.low, self.high, step=self.step)


class Choice(BaseModel):
    """One of several values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["choice"]
    values: tuple[str | int | float | bool, ...] = Field(min_length=2)

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        return trial.suggest_categorical(name, list(self.values))


Dimension = Annotated[Real | Whole | Choice, Field(discriminator="kind")]


class Search(BaseModel):
    """A search: the preset it starts from, fixed options, and the options to vary. Times are in minutes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    out: Path
    corpus: Path
    valid: Path
    preset: str = "fast"
    minutes: float = Field(default=2, gt=0)
    threads: int = Field(default=2, ge=1)
    seed: int = 1
    options: Options = {}
    space: Annotated[dict[str, Dimension], AfterValidator(refuse_given), Field(min_length=1)]


def tune(args: argparse.Namespace) -> int:
    """Run the command: this worker's share of the trials, then the best preset so far."""
    search = read_search(Path(args.plan))
    search.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the trial's process ends, and the trial with it
    try:
        study = open_study(search)
        study.optimize(lambda trial: _try(search, trial), n_trials=args.trials, catch=(CorpusError,))
    except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StoreError(f"the trials' database failed: {getattr(error, 'orig', None) or error}") from None
    except ValueError as error:  # Optuna's, where a choice has other values than when the search began
        raise ConfigError(f"{args.plan}: {error}; give the search another name to begin it again") from None
    finished = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    print(f"{len(study.trials)} trials, {len(finished)} of them to the end")
    if not finished:
        print("no trial came to its end; nothing to write yet", file=sys.stderr)
        return 1
    path = search.out / f"{search.name}.toml"
    path.write_text(preset_text(search, study), encoding="utf-8")
    print(f"{study.best_value:.4f} bits a byte: python -m trainer train … --preset {path}")
    return 0


def read_search(path: Path) -> Search:
    """Read a SEARCH.toml. Raises ConfigError that names every bad key."""
    search = read_experiment(path, Search)
    fixed = load_preset(search.preset) | search.options
    kinds = getattr(search.space.get("tokenizer"), "values", [fixed.get("tokenizer")])
    searched = {name.replace("-", "_") for name in search.space}
    if {"word", "char"}.intersection(kinds) and (odd := _VOCABULARY & searched):
        raise ConfigError(
            f"{path}: {', '.join(sorted(odd))} cannot be searched with a closed vocabulary: the smallest would win, "
            "for it leaves out what is hardest"
        )
    return search


def open_study(search: Search) -> optuna.Study:
    """Create the study, or join the one of that name. Raises ConfigError where that one was begun as another search."""
    study = optuna.create_study(
        study_name=search.name,
        storage=_storage(search),
        load_if_exists=True,
        direction="minimize",
        sampler=optuna.samplers.TPESampler(constant_liar=True),  # workers side by side try different things
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3),
    )
    now = search.model_dump(mode="json", exclude={"out", "corpus", "valid", "space"})
    now |= {"preset_options": load_preset(search.preset), "books": [search.corpus.name, search.valid.name]}
    if odd := changes(study.user_attrs.get("search", now), now):
        raise ConfigError(f"search {search.name!r} began otherwise: {odd}; give it another name to begin it again")
    study.set_user_attr("search", now)
    return study


def preset_text(search: Search, study: optuna.Study) -> str:
    """Return the best trial's options as a preset file."""
    best = study.best_trial
    options = load_preset(search.preset) | search.options | best.params
    lines = [
        f"# Found by `python -m trainer tune`, search {search.name!r}, trial {best.number} of {len(study.trials)}:",
        f"# {best.value:.4f} bits a byte of validation text after {search.minutes:g} minutes a trial.",
        *(f"{key} = {_toml_value(value)}" for key, value in options.items()),
    ]
    return "\n".join(lines) + "\n"


def _try(search: Search, trial: optuna.Trial) -> float:
    """Train once; return the best validation bits a byte. Raises TrialPruned where others did better."""
    chosen = {name: dimension.suggest(trial, name) for name, dimension in search.space.items()}
    folder = search.out / f"trial-{trial.number}"
    with _training(search, folder, chosen) as process:
        try:
            history = _watch(trial, process, folder / "history.jsonl", search.minutes)
        finally:
            process.terminate()
    errors = (folder / "train.log").read_text(encoding="utf-8").strip().splitlines()
    if process.returncode != 0 or not history:
        raise CorpusError(f"trial {trial.number} ended with status {process.returncode}: {(errors or [''])[-1]}")
    return min(point["valid_bits_per_byte"] for point in history)


def _training(search: Search, folder: Path, chosen: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").unlink(missing_ok=True)  # of a search of another name
    arguments = [
        *(sys.executable, "-m", "trainer", "train", str(search.corpus), "--valid", str(search.valid)),
        *("--out", str(folder), "--preset", search.preset, "--minutes", str(search.minutes), "--clock", "processor"),
        *("--seed", str(search.seed), "--quiet", "--validate-tokens", str(_VALIDATED)),
        *as_arguments({**search.options, **chosen}),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(search.threads)}
    with (folder / "train.log").open("wb") as output:
        return subprocess.Popen(arguments, env=environment, stdout=output, stderr=output)


def _watch(
    trial: optuna.Trial, process: "subprocess.Popen[bytes]", path: Path, minutes: float
) -> list[dict[str, float]]:
    """Report validations as they come, until training ends or the pruner has seen enough."""
    history: list[dict[str, float]] = []
    reported: set[int] = set()
    while True:
        is_over = process.poll() is not None
        points = _read_lines(path)
        for point in points[len(history) :]:
            step = round(_POINTS * point["seconds"] / (60 * minutes))  # trials are compared at the same time
            if step not in reported:
                trial.report(point["valid_bits_per_byte"], step)
                reported.add(step)
            if not is_over and trial.should_prune():
                raise optuna.TrialPruned
        history = points
        if is_over:
            return history
        time.sleep(_POLL_S)


def _read_lines(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]  # after the last line end there may be half a line


def _storage(search: Search) -> optuna.storages.RDBStorage:
    """Open a PostgreSQL database at DATABASE_URL, else a SQLite file beside the results; one worker makes the tables.

    In PostgreSQL the trials have a schema of their own: Optuna and our migrations would both call a table
    `alembic_version`, and each take the other's for its own.
    """
    try:
        url = sa.make_url(os.environ.get("DATABASE_URL") or "sqlite://")
    except sa.exc.ArgumentError:
        raise ConfigError("DATABASE_URL must be a URL such as postgresql://user@host/name") from None
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise ConfigError(f"DATABASE_URL must begin with postgresql or sqlite, got {url.drivername}")
    if url.get_backend_name() == "sqlite":
        with FileLock(search.out / "trials.lock"):
            return optuna.storages.RDBStorage(f"sqlite:///{search.out / 'trials.sqlite3'}")
    url = url.set(drivername="postgresql+psycopg")  # Optuna works with drivers that block
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))  # until the connection closes
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
            where = {"connect_args": {"options": f"-csearch_path={_SCHEMA}"}, "poolclass": sa.NullPool}
            return optuna.storages.RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=where)
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(f"cannot keep trials in {url.render_as_string()}: {getattr(error, 'orig', error)}") from None


def _toml_value(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"expected a finite number, got {value}")
    return json.dumps(value)
