"""A real search with real, tiny trainings; storage is a real SQLite file."""

import json
import os
import subprocess
import sys
import tomllib
from argparse import Namespace
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from core.errors import ConfigError
from tests.tiny import TEXT
from trainer.__main__ import main
from trainer.presets import expand_preset
from trainer.tune import Search, _watch, open_study, preset_text, read_search, tune

SEARCH = """
name = "tiny-search"
out = "{folder}/out"
corpus = "{folder}/book.txt"
valid = "{folder}/valid.txt"
threads = 1
options = {{ steps = 3, vocab_size = 300, embedding_size = 16, layers = 1, dropout = 0.1, lanes = 4, validations = 3 }}

[space]
learning_rate = {{ kind = "real", low = 1e-3, high = 1e-2, log = true }}
hidden_size = {{ kind = "whole", low = 8, high = 16, step = 8 }}
tokenizer = {{ kind = "choice", values = ["unigram", "bpe"] }}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(TEXT)
    (tmp_path / "valid.txt").write_text(TEXT.replace("donkey", "goose"))
    path = tmp_path / "SEARCH.toml"
    path.write_text(SEARCH.format(folder=tmp_path))
    return path


@pytest.mark.timeout(600)  # three trainings, each in a process of its own
def test_a_search_goes_on_and_writes_a_preset_that_train_takes(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["tune", str(plan), "--trials", "1"]) == 0
    assert tune(Namespace(plan=plan, trials=1)) == 0
    study = open_study(read_search(plan))
    assert [trial.number for trial in study.trials] == [0, 1]
    assert all(trial.intermediate_values for trial in study.trials)
    path = tmp_path / "out" / "tiny-search.toml"
    best = tomllib.loads(path.read_text())
    assert best["learning_rate"] == study.best_params["learning_rate"]
    assert (best["vocab_size"], best["from"]) == (300, "nothing")
    assert (
        main(expand_preset(["train", str(tmp_path / "book.txt"), "--preset", str(path), "--out", f"{tmp_path}/r"])) == 0
    )
    assert "2 trials, 2 of them to the end" in capsys.readouterr().out


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_two_workers_that_start_together_share_a_search(
    plan: Path, database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if database == "postgresql":
        server = request.getfixturevalue("postgres_server")
        monkeypatch.setenv("DATABASE_URL", f"postgresql+asyncpg://fable@127.0.0.1:{server.port}/postgres")
    command = [sys.executable, "-m", "trainer", "tune", str(plan), "--trials", "1"]
    root = Path(__file__).parents[2]
    workers = [subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    study = open_study(read_search(plan))
    assert sorted(trial.number for trial in study.trials) == [0, 1]
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    if database == "postgresql":  # our migrations keep a table of that name in their own schema
        engine = sa.create_engine(os.environ["DATABASE_URL"].replace("asyncpg", "psycopg"), poolclass=sa.NullPool)
        assert "alembic_version" in sa.inspect(engine).get_table_names("fablewright_tune")
        assert "alembic_version" not in sa.inspect(engine).get_table_names("public")


def test_a_database_that_cannot_be_reached_is_one_line(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://fable:secret@127.0.0.1:1/postgres")
    assert main(["tune", str(plan)]) == 2
    error = capsys.readouterr().err
    assert "cannot keep trials in postgresql+psycopg://fable:***@127.0.0.1:1/postgres" in error
    assert "secret" not in error


def test_a_url_of_no_database_is_one_line(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "the usual one")
    assert main(["tune", str(plan)]) == 2
    assert "DATABASE_URL must be a URL such as postgresql://" in capsys.readouterr().err


def test_other_choices_need_another_search(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def suggest(search: Search, trial: optuna.Trial) -> float:
        search.space["tokenizer"].suggest(trial, "tokenizer")
        return 1.0

    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr("trainer.tune._try", suggest)
    read_search(plan).out.mkdir()
    study = open_study(read_search(plan))
    study.optimize(lambda trial: suggest(read_search(plan), trial), n_trials=1)
    plan.write_text(plan.read_text().replace('["unigram", "bpe"]', '["bpe", "unigram"]'))
    assert main(["tune", str(plan), "--trials", "1"]) == 2
    assert "give the search another name to begin it again" in capsys.readouterr().err


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(plan.read_text().replace('["unigram", "bpe"]', '["telepathy", "dowsing"]'))
    assert tune(Namespace(plan=plan, trials=2)) == 1
    states = [trial.state for trial in open_study(read_search(plan)).trials]
    assert states == [optuna.trial.TrialState.FAIL] * 2
    assert "no trial came to its end" in capsys.readouterr().err


class _Running:
    """A training that never ends by itself."""

    def poll(self) -> None:
        return None


def test_a_hopeless_trial_is_stopped_early(plan: Path, tmp_path: Path) -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=5.0))
    points = [{"seconds": 10, "valid_bits_per_byte": 4.0}, {"seconds": 20, "valid_bits_per_byte": 6.0}]
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(point) + "\n" for point in points) + '{"valid_bits')
    with pytest.raises(optuna.TrialPruned):
        _watch(study.ask(), _Running(), path, 2.0)  # type: ignore[arg-type]


def test_the_best_of_several_becomes_the_preset(plan: Path) -> None:
    search, study = read_search(plan), optuna.create_study()
    for rate, value in ((0.1, 2.5), (0.2, 1.5), (0.3, 1.75)):
        distribution = {"learning_rate": optuna.distributions.FloatDistribution(0, 1)}
        study.add_trial(
            optuna.trial.create_trial(value=value, params={"learning_rate": rate}, distributions=distribution)
        )
    text = preset_text(search, study)
    assert tomllib.loads(text)["learning_rate"] == 0.2
    assert "trial 1 of 3:\n# 1.5000 bits a byte" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low = 1e-3, high = 1e-2", "low = 1e-2, high = 1e-3", "low must be below high"),
        ("high = 1e-2", "high = inf", "space.learning_rate.real.high: input should be a finite number"),
        (
            '"bpe"] }',
            '"word"] }\nvocab-size = { kind = "whole", low = 99, high = 999 }',
            "vocab_size cannot be searched",
        ),
        ("low = 1e-3", "low = 0.0", "above 0 on a log scale, got 0 and 0.01"),
        ('kind = "choice"', 'kind = "whim"', "space.tokenizer: input tag 'whim' .* does not match"),
        ("threads = 1", "thread = 1", "thread: extra inputs are not permitted"),
        ('values = ["unigram", "bpe"]', 'values = ["unigram", "word"]', "tokenizer cannot be searched with a closed"),
        ("options = {", "options = { seed = 9,", "options: .*seed must be the same for all"),
        ("threads = 1", 'preset = "quick"', "preset must be one of .*course, fast, .* got 'quick'"),
    ],
)
def test_a_wrong_search_is_refused_before_anything_runs(plan: Path, old: str, new: str, message: str) -> None:
    plan.write_text(plan.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_search(plan)


def test_a_search_that_goes_on_otherwise_than_it_began_is_refused(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    search = read_search(plan)
    search.out.mkdir()
    open_study(search)
    open_study(search)
    with pytest.raises(ConfigError, match=r"'tiny-search' began otherwise: minutes was 2.0 and is 20.0;"):
        open_study(search.model_copy(update={"minutes": 20.0}))
    with pytest.raises(ConfigError, match=r"books was \['book.txt', 'valid.txt'\] and is \['book.txt', 'other.txt'\]"):
        open_study(search.model_copy(update={"valid": Path("other.txt")}))


def test_the_search_that_comes_with_the_trainer_is_sound() -> None:
    assert "learning_rate" in read_search(Path(__file__).parents[2] / "docs" / "tune.toml").space
