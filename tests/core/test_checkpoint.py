"""A checkpoint is whole or refused; writing one never harms the one that was there."""

import json
import os
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.checkpoint import CheckpointConfig, load_checkpoint, save_checkpoint
from core.errors import CheckpointError
from tests.tiny import other_tokenizer


@pytest.fixture
def damaged(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may spoil."""
    return copytree(tiny_checkpoint, tmp_path / "spoiled")


def test_a_checkpoint_comes_back_as_it_was_saved(tiny_checkpoint: Path, tmp_path: Path) -> None:
    first = load_checkpoint(tiny_checkpoint)
    save_checkpoint(
        tmp_path / "copy", model=first.model, tokenizer=first.tokenizer, config=first.config, card="# copy\n"
    )
    second = load_checkpoint(tmp_path / "copy")
    assert (second.name, second.config) == ("copy", first.config)
    assert second.tokenizer.to_bytes() == first.tokenizer.to_bytes()
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])


def test_bfloat16_weights_are_stored_in_half_the_space_and_run_in_float32(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    first = load_checkpoint(tiny_checkpoint)
    save_checkpoint(
        tmp_path / "half",
        model=first.model,
        tokenizer=first.tokenizer,
        config=first.config,
        card="# half\n",
        dtype=torch.bfloat16,
    )
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert all(tensor.dtype == torch.bfloat16 for tensor in stored.values())
    loaded = load_checkpoint(tmp_path / "half").model.state_dict()
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(loaded[name], tensor.bfloat16().float())


def test_saving_replaces_the_old_checkpoint_and_leaves_nothing_else(tiny_checkpoint: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(tiny_checkpoint)
    for card in ("# one\n", "# two\n"):
        save_checkpoint(tmp_path / "a", model=kept.model, tokenizer=kept.tokenizer, config=kept.config, card=card)
    assert (tmp_path / "a" / "README.md").read_text() == "# two\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_file_of_a_checkpoint_can_be_read_by_the_one_who_serves_it(tiny_checkpoint: Path) -> None:
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in tiny_checkpoint.iterdir())


def test_a_failure_while_writing_leaves_the_old_checkpoint_whole(tiny_checkpoint: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(tiny_checkpoint)
    save_checkpoint(tmp_path / "a", model=kept.model, tokenizer=kept.tokenizer, config=kept.config, card="# a\n")
    unwritable = CheckpointConfig(architecture="awd_lstm", model=kept.config.model, training={"set": {1}})
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "a", model=kept.model, tokenizer=kept.tokenizer, config=unwritable, card="# b\n")
    assert load_checkpoint(tmp_path / "a").config == kept.config
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_checkpoint_that_cannot_be_put_into_place_leaves_the_old_one_there(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, replace = load_checkpoint(tiny_checkpoint), os.replace
    save_checkpoint(tmp_path / "a", model=kept.model, tokenizer=kept.tokenizer, config=kept.config, card="# a\n")

    def fail(source: Path, target: Path) -> None:
        if target == tmp_path / "a" and "-old-" not in str(source):
            raise OSError("no room")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CheckpointError, match="no room"):
        save_checkpoint(tmp_path / "a", model=kept.model, tokenizer=kept.tokenizer, config=kept.config, card="# b\n")
    assert (tmp_path / "a" / "README.md").read_text() == "# a\n"
    assert load_checkpoint(tmp_path / "a").config == kept.config


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"found nothing.*/gone"):
        load_checkpoint(tmp_path / "gone")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.model"])
def test_a_missing_file_is_named(damaged: Path, file: str) -> None:
    (damaged / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(damaged)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.model"])
def test_half_a_file_is_named(damaged: Path, file: str) -> None:
    content = (damaged / file).read_bytes()
    (damaged / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(damaged)


def test_another_tokenizer_of_the_same_size_is_refused(damaged: Path) -> None:
    assert other_tokenizer().vocab_size == load_checkpoint(damaged).tokenizer.vocab_size
    (damaged / "tokenizer.model").write_bytes(other_tokenizer().to_bytes())
    with pytest.raises(CheckpointError, match=r"is not the tokenizer that config.json names .* copy the whole folder"):
        load_checkpoint(damaged)


def test_a_checkpoint_saved_before_tokenizers_had_digests_loads(damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text())
    assert len(config.pop("tokenizer_sha256")) == 64
    (damaged / "config.json").write_text(json.dumps(config))
    load_checkpoint(damaged)


def test_a_tensor_of_the_wrong_shape_is_named(damaged: Path) -> None:
    weights = load_file(damaged / "model.safetensors")
    weights["output_bias"] = torch.zeros(3)
    save_file(weights, damaged / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"output_bias of shape \(\d+,\), got \(3,\)"):
        load_checkpoint(damaged)


def test_more_layers_than_anybody_could_build_are_refused_before_they_are_built(damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text())
    config["model"]["layers"] = 10**9
    (damaged / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"expected tensors for the 1000000000 layers that config.json describes"):
        load_checkpoint(damaged)


def test_a_missing_tensor_is_named(damaged: Path) -> None:
    weights = load_file(damaged / "model.safetensors")
    del weights["output_bias"]
    save_file(weights, damaged / "model.safetensors")
    with pytest.raises(CheckpointError, match="differ: output_bias"):
        load_checkpoint(damaged)


def test_a_weight_that_is_not_a_number_is_refused(damaged: Path) -> None:
    weights = load_file(damaged / "model.safetensors")
    weights["output_bias"][0] = torch.nan
    save_file(weights, damaged / "model.safetensors")
    with pytest.raises(CheckpointError, match="NaN or infinity in output_bias"):
        load_checkpoint(damaged)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("version", 99, "expected format version 1, got 99"),
        ("architecture", "gpt", "architecture must be one of .*, got 'gpt'"),
        ("colour", "blue", "does not fit"),
        ("architecture", ["awd_lstm"], "expected architecture to be a str"),
        ("model", {"vocab_size": 5}, "expected 5 pieces"),
        ("model", None, "expected model to be a dict, got None"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(damaged: Path, key: str, value: object, message: str) -> None:
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(damaged)
