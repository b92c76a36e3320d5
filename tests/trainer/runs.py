"""Short runs on a page of our own text, and what they left."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from trainer.__main__ import main

SIZES = {
    "vocab-size": 400,
    "embedding-size": 16,
    "hidden-size": 24,
    "layers": 2,
    "lanes": 4,
    "bptt": 16,
    "dropout": 0.1,
}
SMALL = ["--quiet", "--validations", "2", *(f"--{name}={value}" for name, value in SIZES.items())]


def train(corpus: Path, out: Path, *options: str) -> int:
    return main(["train", str(corpus), "--out", str(out), *SMALL, *options])


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoint" / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
