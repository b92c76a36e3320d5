"""A trained model on disk: a directory with weights, config, tokenizer and model card.

    model.safetensors    the weights, float32 or bfloat16
    config.json          architecture, sizes, and how it was trained
    tokenizer.model      the vocabulary
    novelty.safetensors  which runs of words stand in the training books; may be left out
    README.md            the model card

Written aside, fsynced and renamed: what goes wrong leaves the old checkpoint (a crash between the two renames, under a
name beside that begins with a dot). Loading never unpickles.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from .errors import CheckpointError
from .models import build_model
from .novelty import NoveltyIndex
from .tokenizer import Tokenizer

FORMAT_VERSION = 1
WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.model", "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """What config.json holds: enough to rebuild the network and to say where it came from."""

    architecture: str
    model: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    tokenizer_sha256: str = ""  # set when saved; two tokenizers of one size fit the weights, and only one makes sense
    version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint; `model` is in evaluation mode, in float32."""

    name: str
    path: Path
    model: Any  # a LanguageModel; torch modules and protocols do not mix in mypy
    tokenizer: Tokenizer
    config: CheckpointConfig
    novelty: NoveltyIndex | None = None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a checkpoint directory. Raises CheckpointError that names the file and what is wrong with it."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(
            f"expected a checkpoint directory, found {'a file' if path.exists() else 'nothing'}: {path}"
        )
    config = read_config(path / CONFIG)
    tokenizer = Tokenizer.load(path / TOKENIZER)
    _check_tokenizer(tokenizer, config, path / TOKENIZER)
    weights = _read_weights(path / WEIGHTS)
    for name in ("layers", "rounds"):
        count = config.model.get(name)
        if isinstance(count, int) and count > len(weights):  # or building the model could take for ever
            raise CheckpointError(
                f"{path / WEIGHTS}: expected tensors for the {count} {name} that {CONFIG} describes, got {len(weights)}"
            )
    try:
        with torch.device("meta"):  # no memory and no random numbers: the weights come from the file
            model = build_model(config.architecture, config.model)
    except CheckpointError as error:
        raise CheckpointError(f"{path / CONFIG}: {error}") from error
    _load_weights(model, weights, path / WEIGHTS)
    return Checkpoint(
        name=path.resolve().name,
        path=path,
        model=model.eval(),
        tokenizer=tokenizer,
        config=config,
        novelty=NoveltyIndex.load(path),
    )


def save_checkpoint(
    path: str | Path,
    *,
    model: torch.nn.Module,
    tokenizer: Tokenizer,
    config: CheckpointConfig,
    card: str,
    novelty: NoveltyIndex | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a checkpoint directory aside and rename it into place, replacing the one that was there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, aside / WEIGHTS)
        config = replace(config, tokenizer_sha256=_digest(tokenizer))
        (aside / CONFIG).write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")
        (aside / TOKENIZER).write_bytes(tokenizer.to_bytes())
        (aside / CARD).write_text(card, encoding="utf-8")
        aside.chmod(0o755)
        if novelty is not None:
            novelty.save(aside)
        for file in aside.iterdir():
            file.chmod(0o644)  # safetensors writes for its owner alone; a server may run as somebody else
            sync(file)
        sync(aside)
        _replace_directory(aside, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_config(file: Path) -> CheckpointConfig:
    """Read a checkpoint's config.json. Raises CheckpointError that says what is wrong with it."""
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}") from error
    version = fields.get("version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{file}: expected format version {FORMAT_VERSION}, got {version}")
    try:
        config = CheckpointConfig(**fields)
    except TypeError as error:
        raise CheckpointError(f"{file} does not fit: {error}") from error
    for name, kind in (("architecture", str), ("model", dict), ("training", dict)):
        if not isinstance(value := getattr(config, name), kind):
            raise CheckpointError(f"{file} does not fit: expected {name} to be a {kind.__name__}, got {value!r}")
    return config


def _check_tokenizer(tokenizer: Tokenizer, config: CheckpointConfig, file: Path) -> None:
    expected, advice = config.model.get("vocab_size"), "copy the whole folder again from where it was trained"
    if expected != tokenizer.vocab_size:
        raise CheckpointError(
            f"{file}: expected {expected} pieces, as in {CONFIG}, got {tokenizer.vocab_size}; {advice}"
        )
    if config.tokenizer_sha256 not in ("", _digest(tokenizer)):
        raise CheckpointError(f"{file} is not the tokenizer that {CONFIG} names by its SHA-256; {advice}")


def _digest(tokenizer: Tokenizer) -> str:
    return hashlib.sha256(tokenizer.to_bytes()).hexdigest()


def _read_weights(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"cannot read {file}: no such file") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} is not a whole safetensors file: {error}") from error


def _load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], file: Path) -> None:
    expected = model.state_dict()
    if odd := expected.keys() ^ weights.keys():
        raise CheckpointError(
            f"{file}: expected the tensors that {CONFIG} describes, these differ: {', '.join(sorted(odd))}"
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{file}: expected {name} of shape {tuple(expected[name].shape)}, got {tuple(tensor.shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{file}: expected finite numbers, got NaN or infinity in {name}")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)


def _replace_directory(source: Path, target: Path) -> None:
    """Directories cannot be renamed over each other: move the old one away first and delete it last."""
    old: Path | None = None
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        os.replace(target, old / target.name)
    try:
        os.replace(source, target)
    except OSError:
        if old is not None:
            os.replace(old / target.name, target)
        raise
    sync(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Return when a file, or what a folder says of its files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
