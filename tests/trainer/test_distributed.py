"""Two processes train the model that one would have trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import TEXT
from trainer.__main__ import main

ROOT = Path(__file__).parents[2]
OPTIONS = [
    "--vocab-size=400",
    "--embedding-size=16",
    "--hidden-size=24",
    "--layers=2",
    "--lanes=4",
    "--bptt=16",
    "--dropout=0",
    "--steps=8",
    "--no-bfloat16",
    "--validations=4",
    "--quiet",
]


def _train_by_two(corpus: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "trainer", "train", str(corpus), "--out", str(out), *OPTIONS, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _curve(run: Path) -> list[float]:
    return [json.loads(line)["valid_loss"] for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(TEXT * 3)
    return tmp_path / "book.txt"


@pytest.mark.timeout(300)
def test_one_process_and_two_learn_the_same_up_to_rounding_and_go_on_for_each_other(
    corpus: Path, tmp_path: Path
) -> None:
    assert main(["train", str(corpus), "--out", str(tmp_path / "one"), *OPTIONS]) == 0
    for stop in (3, 5):
        stopped = _train_by_two(corpus, tmp_path / "two", f"--stop-at-step={stop}", "--resume")
        assert "interrupted, go on with --resume" in stopped.stdout
    assert main(["train", str(corpus), "--out", str(tmp_path / "two"), *OPTIONS, "--stop-at-step=6", "--resume"]) == 1
    resumed = _train_by_two(corpus, tmp_path / "two", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    one, two = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    curve = _curve(tmp_path / "one")
    assert len(curve) == 4
    assert _curve(tmp_path / "two") == pytest.approx(curve, rel=1e-5)


def test_two_processes_learn_in_int8_what_one_does_up_to_its_steps(corpus: Path, tmp_path: Path) -> None:
    main(["train", str(corpus), "--out", str(tmp_path / "one"), *OPTIONS])
    by_two = _train_by_two(corpus, tmp_path / "two", "--int8")
    assert by_two.returncode == 0, by_two.stderr
    assert _curve(tmp_path / "two") == pytest.approx(_curve(tmp_path / "one"), rel=0.01)
    assert _curve(tmp_path / "two") != pytest.approx(_curve(tmp_path / "one"), rel=1e-5)


def test_processes_that_would_leave_a_lane_out_cannot_go_on(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(corpus), "--out", str(tmp_path / "run"), *OPTIONS[:4], "--lanes=5", *OPTIONS[5:]]
    main([*command, "--stop-at-step=1"])
    stopped = _train_by_two(corpus, tmp_path / "run", "--lanes=5", "--resume")
    assert stopped.returncode != 0
    assert "saved with 5 lanes, but 2 processes would share 4" in stopped.stderr
