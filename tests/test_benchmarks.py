"""A benchmark that breaks is noticed: those that use what is private run through, small, and print their table."""

import subprocess
import sys


def test_the_training_benchmark_prints_its_table() -> None:
    small = ("--lanes", "2", "--bptt", "4", "--rounds", "1", "--threads", "1")
    command = [sys.executable, "-m", "tests.benchmarks.training", *small]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split("|")[1].strip() for line in ran.stdout.splitlines() if line.count("|") == 6]
    steps = ["our step, int8", "our step, bfloat16", "stock nn.LSTM step, float32"]
    assert rows[2:] == ["bfloat16 product, 4096 x 4096", *steps]
