"""A run that stops goes on exactly, whatever stopped it, and as what it began."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from core.checkpoint import load_checkpoint
from tests.tiny import TEXT
from tests.trainer.runs import SMALL, assert_same, train, weights


@pytest.mark.parametrize("arithmetic", ["--int8", "--no-int8"])
def test_2n_steps_are_n_steps_saved_and_resumed_bit_for_bit(corpus: Path, tmp_path: Path, arithmetic: str) -> None:
    options = ("--steps", "20", arithmetic)
    assert train(corpus, tmp_path / "whole", *options) == 0
    assert train(corpus, tmp_path / "parts", *options, "--stop-at-step", "10") == 1
    assert train(corpus, tmp_path / "parts", *options, "--resume") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_resumed_run_with_other_books_first_is_exact_as_well(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(TEXT.upper())
    others = ("--pretrain", str(tmp_path / "other.txt"), "--steps", "20")
    train(corpus, tmp_path / "whole", *others)
    train(corpus, tmp_path / "parts", *others, "--stop-at-step", "14")
    train(corpus, tmp_path / "parts", *others, "--resume")
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_resumed_run_of_the_papers_recipe_is_exact_as_well(corpus: Path, tmp_path: Path) -> None:
    recipe = "--optimizer=sgd --averaging --variable-bptt --schedule=constant --learning-rate=30 --activation-penalty=2"
    options = (*recipe.split(), "--steps=240", "--validations=20", "--clip=0.25")
    train(corpus, tmp_path / "whole", *options)
    train(corpus, tmp_path / "parts", *options, "--stop-at-step", "220")
    assert json.loads((tmp_path / "parts" / "resume" / "facts.json").read_text())["average"]["count"] > 0
    train(corpus, tmp_path / "parts", *options, "--resume")
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


LONG = ["--steps", "400", "--validations", "1"]


@pytest.fixture(scope="module")
def whole(lasting_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long run that nothing stopped."""
    out = tmp_path_factory.mktemp("train") / "whole"
    assert train(lasting_corpus, out, *LONG) == 0
    return out


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_saves_and_the_run_goes_on_exactly(
    lasting_corpus: Path, whole: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    books, out = str(lasting_corpus), tmp_path / "parts"
    command = [sys.executable, "-m", "trainer", "train", books, "--out", str(out), *SMALL, *LONG]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        assert any("started step=0" in line for line in process.stderr)
        process.send_signal(stop)
        assert process.wait(60) == 1
    facts = json.loads((out / "resume" / "facts.json").read_text())
    assert 0 <= facts["step"] < 400
    assert train(lasting_corpus, out, *LONG, "--resume") == 0
    assert_same(weights(whole), weights(out))


def test_a_full_disk_leaves_the_last_good_state_and_checkpoint(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    train(corpus, tmp_path / "run", "--steps", "40", "--validations", "10", "--stop-at-step", "20")
    kept, state = weights(tmp_path / "run"), (tmp_path / "run" / "resume" / "facts.json").read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # a write beyond it fails as one to a full disk does
    try:
        assert train(corpus, tmp_path / "run", "--steps", "40", "--validations", "10", "--resume") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot keep the checkpoint of step" in caplog.text
    assert "cannot save the state of step 40" in caplog.text
    assert "cannot write the checkpoint" in capsys.readouterr().err
    assert_same(kept, weights(tmp_path / "run"))
    assert (tmp_path / "run" / "resume" / "facts.json").read_text() == state
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"checkpoint", "resume"}
    assert not (tmp_path / "run" / "resume.new").exists()


def test_a_run_does_not_go_on_as_what_it_did_not_begin_as(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(corpus, tmp_path / "run", "--steps", "8", "--stop-at-step", "4") == 1
    assert train(corpus, tmp_path / "run", "--steps", "8", "--resume", "--weight-decay", "0.5") == 2
    assert "weight_decay was 0.05 and is 0.5" in capsys.readouterr().err
    assert train(corpus, tmp_path / "run", "--steps", "8", "--resume") == 0


def test_a_run_begun_anew_does_not_go_on_from_the_one_before(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(corpus, tmp_path / "run", "--steps", "8") == 0
    with monkeypatch.context() as killed:
        killed.setattr("trainer.loop.Loop.run", Mock(side_effect=MemoryError))
        assert train(corpus, tmp_path / "run", "--steps", "8", "--seed", "2") == 2
    assert train(corpus, tmp_path / "run", "--steps", "8", "--seed", "2", "--resume") == 0
    assert train(corpus, tmp_path / "whole", "--steps", "8", "--seed", "2") == 0
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_resumed_run_has_the_minutes_it_was_given_before(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(corpus, tmp_path / "run", "--minutes", "48", "--stop-at-step", "1") == 1
    assert train(corpus, tmp_path / "run", "--resume", "--stop-at-step", "2") == 1
    progress = json.loads((tmp_path / "run" / "options.json").read_text())
    assert progress["minutes"] == 48
    assert train(corpus, tmp_path / "run", "--resume", "--minutes", "0.0001") == 0


def test_a_resumed_run_has_the_steps_it_was_given_before(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(corpus, tmp_path / "whole", "--steps", "20") == 0
    assert train(corpus, tmp_path / "parts", "--steps", "20", "--stop-at-step", "10") == 1
    capsys.readouterr()
    assert train(corpus, tmp_path / "parts", "--resume") == 0
    assert "plan: 20 steps\n" in capsys.readouterr().out
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_finished_run_that_is_resumed_keeps_its_figures(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(corpus, out, "--minutes", "0.02") == 0
    before = load_checkpoint(out / "checkpoint").config.training["results"]
    assert before["valid"]["tokens"] > 0
    assert train(corpus, out, "--minutes", "0.02", "--resume") == 0
    assert load_checkpoint(out / "checkpoint").config.training["results"] == before


def test_a_run_whose_process_died_between_two_renames_goes_on_exactly(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "whole", "--steps", "20")
    train(corpus, tmp_path / "parts", "--steps", "20", "--stop-at-step", "10")
    (tmp_path / "parts" / "resume").rename(tmp_path / "parts" / "resume.old")
    (tmp_path / "parts" / "resume.new").mkdir()
    assert train(corpus, tmp_path / "parts", "--steps", "20", "--resume") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert not (tmp_path / "parts" / "resume.old").exists()


@pytest.mark.parametrize("part", ["facts.json", "rank0.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 64])
def test_a_damaged_state_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, content: bytes
) -> None:
    out = tmp_path / "run"
    train(corpus, out, "--steps", "8", "--stop-at-step", "4")
    (out / "resume" / part).write_bytes(content)
    assert train(corpus, out, "--steps", "8", "--resume") == 2
    assert f"{out / 'resume'}: expected the state of a run, got a damaged one" in capsys.readouterr().err
