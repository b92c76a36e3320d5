"""A run, end to end, on a page of our own text: it learns, and says what is wrong."""

import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from filelock import FileLock

from core.checkpoint import load_checkpoint
from tests.tiny import TEXT
from tests.trainer.runs import SIZES, assert_same, train, weights
from trainer.__main__ import main


def test_another_seed_gives_other_weights(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "one", "--steps", "2")
    train(corpus, tmp_path / "two", "--steps", "2", "--seed", "2")
    assert not torch.equal(weights(tmp_path / "one")["embedding"], weights(tmp_path / "two")["embedding"])


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("architecture", ["awd_lstm", "lstm", "mogrifier", "transformer"])
def test_a_run_learns_and_its_checkpoint_says_how(corpus: Path, tmp_path: Path, architecture: str, int8: bool) -> None:
    arithmetic = "--int8" if int8 else "--no-int8"
    options = (
        "--steps",
        "60",
        "--learning-rate",
        "0.01",
        "--architecture",
        architecture,
        "--dropout",
        "0.0",
        arithmetic,
    )
    assert train(corpus, tmp_path / "run", *options) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint")
    training = checkpoint.config.training
    first, last = training["history"][0], training["history"][-1]
    assert last["valid_loss"] < first["valid_loss"]
    assert training["steps"] == 60
    assert training["tokens"] == 60 * 4 * 16
    assert training["plan"]["hidden_size"] == 24
    assert training["int8"] == int8
    card = (tmp_path / "run" / "checkpoint" / "README.md").read_text()
    assert "python -m trainer train" in card
    assert training["results"]["test"]["bits_per_byte"] > 0
    result = training["results"]["test"]
    assert f"| test | {result['tokens']:,} | {result['bits_per_byte']:.4f} |" in card
    assert ("> Once upon a time" in card) == (architecture != "transformer")  # which no decoder runs


def test_text_after_a_fresh_state_is_predicted_about_as_well_as_text_deep_in_a_book(
    corpus: Path, tmp_path: Path
) -> None:
    """The trap: a state that is carried on and never fresh in training makes a model that is lost at every prompt."""
    out = tmp_path / "run"
    train(corpus, out, "--steps", "150", "--learning-rate", "0.01", "--split", "50/25/25", "--dropout", "0.0")
    checkpoint = load_checkpoint(out / "checkpoint")
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    ids = torch.tensor([tokenizer.document_id, *tokenizer.encode(TEXT * 8)]).unsqueeze(1)
    with torch.no_grad():
        logits, state = model(ids[:-1], model.init_state(1))
    losses = torch.nn.functional.cross_entropy(logits[:, 0], ids[1:, 0], reduction="none")
    page = len(tokenizer.encode(TEXT))
    fresh, deep = losses[:page].mean().item(), losses[-page:].mean().item()
    assert fresh < deep + 0.5
    assert max(float(cell.abs().max()) for cell in state[1::2]) < 256


def test_the_split_is_printed_with_its_total(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(corpus, tmp_path / "run", "--steps", "1")
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    tokens = {name: int(rows[name][0].replace(",", "")) for name in ("training", "validation", "test", "total")}
    assert tokens["training"] + tokens["validation"] + tokens["test"] == tokens["total"]
    assert tokens["training"] > 4 * tokens["validation"] > 0


def test_a_run_against_the_clock_spends_little_of_it_on_validation(corpus: Path, tmp_path: Path) -> None:
    assert train(corpus, tmp_path / "run", "--minutes", "0.03", "--validations", "100000") == 0
    facts = json.loads((tmp_path / "run" / "resume" / "facts.json").read_text())
    assert facts["step"] > 2 * len(facts["history"])  # every step would be followed by one, had they no limit


def test_bad_validation_ends_a_patient_run_early(corpus: Path, tmp_path: Path) -> None:
    options = ("--steps", "400", "--validations", "100", "--learning-rate", "3.0", "--patience", "2")
    assert train(corpus, tmp_path / "run", *options) == 0
    facts = json.loads((tmp_path / "run" / "resume" / "facts.json").read_text())
    assert facts["step"] < 400


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(corpus, tmp_path / "run", "--steps", "8", "--validations", "4")
    kept = weights(tmp_path / "run")
    assert train(corpus, tmp_path / "run", "--steps", "8", "--learning-rate", "1e38", "--validations", "1") == 2
    assert "not a number any more at step" in capsys.readouterr().err
    assert_same(kept, weights(tmp_path / "run"))


def test_a_run_that_can_keep_nothing_is_not_told_of_as_finished(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier run's checkpoint lies where this one's would."""
    train(corpus, tmp_path / "run", "--steps", "2", "--validations", "1")
    with monkeypatch.context() as full:
        full.setattr("trainer.train.save_checkpoint", Mock(side_effect=OSError("no space left")))
        assert train(corpus, tmp_path / "run", "--steps", "2", "--validations", "1", "--hidden-size", "16") == 2
    assert f"{tmp_path / 'run'}: this run could keep no checkpoint" in capsys.readouterr().err
    options = ("--steps", "2", "--validations", "1", "--hidden-size", "16", "--resume")
    assert train(corpus, tmp_path / "run", *options) == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint").config.model["hidden_size"] == 16


def test_a_folder_in_which_another_process_trains_is_refused_and_left_alone(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(corpus, out, "--steps", "20", "--stop-at-step", "10")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with FileLock(out / ".lock"):
        assert train(corpus, out, "--steps", "20", "--resume") == 2
        assert f"{out}: another process trains in this folder" in capsys.readouterr().err
        assert all(path.read_bytes() == content for path, content in before.items())
    assert train(corpus, out, "--steps", "20", "--resume") == 0


@pytest.mark.parametrize(
    "content",
    [
        b"a" * 5000,
        b"Once upon a time there was a fox.\n",
        b"Once upon a time there was a fox. " * 50,
        b"\r\n a b" * 400,
    ],
    ids=["one repeated character", "one line", "one long line", "lines of Windows"],
)
def test_a_strange_corpus_trains(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert train(tmp_path / "a.txt", tmp_path / "run", "--steps", "2") == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint").config.training["results"]["test"]["bits_per_byte"] > 0


def test_mixed_encodings_are_refused_and_clean_mends_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    for number, encoding in enumerate(("utf-8", "cp1252", "utf-16")):
        (tmp_path / "raw" / f"{number}.txt").write_bytes(("The café of the naïve donkey. " * 40).encode(encoding))
    assert train(tmp_path / "raw", tmp_path / "run", "--steps", "2") == 2
    assert "1.txt: expected UTF-8, got byte 0xe9 at offset 7; `python -m trainer clean`" in capsys.readouterr().err
    assert main(["clean", str(tmp_path / "raw"), str(tmp_path / "books"), "--no-drop-duplicates"]) == 0
    assert train(tmp_path / "books", tmp_path / "run", "--steps", "2") == 0


def test_a_corpus_smaller_than_a_batch_trains_with_fewer_lanes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A donkey.\n\nA fox.\n\nA hill.\n\nThe sea.\n")
    assert train(tmp_path / "a.txt", tmp_path / "run", "--steps", "2", "--lanes", "64") == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"x", "enough text to cut into training and validation parts, got 1 bytes"),
        (b"ok \xff", "byte 0xff at offset 3"),
    ],
)
def test_a_bad_corpus_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert train(tmp_path / "a.txt", tmp_path / "run", "--steps", "2") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("split", ["70/15", "a/b/c", "0/50/50", "70/0/30", "nan/15/15", "inf/15/15"])
def test_a_bad_split_is_refused(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str) -> None:
    assert train(corpus, tmp_path / "run", "--split", split) == 2
    assert "--split must" in capsys.readouterr().err


def test_test_text_without_validation_text_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(corpus, tmp_path / "run", "--test", str(corpus)) == 2
    assert "--test goes with --valid" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        *("--minutes=0", "--minutes=nan", "--minutes=inf", "--steps=0", "--lanes=-1", "--seed=-1"),
        *("--dropout=1", "--weight-dropout=1", "--beta2=1", "--learning-rate=x"),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit):
        train(corpus, tmp_path / "run", option)
    name, value = option.split("=")
    assert f"argument {name}: expected a" in (shown := capsys.readouterr().err)
    assert f"got '{value}'" in shown


def test_an_abbreviated_option_is_refused(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or `--pres course` would be taken for the preset, and mean nothing."""
    with pytest.raises(SystemExit):
        train(corpus, tmp_path / "run", "--pres", "course")
    assert "unrecognized arguments: --pres course" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 20.0 GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.0 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 20.0 GiB"),
    ],
)
def test_memory_that_does_not_suffice_is_said(
    error: Exception, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.loop.Loop._train_step", Mock(side_effect=error))
    assert train(corpus, tmp_path / "run", "--steps", "8") == 2
    assert f"error: out of memory, smaller sizes or fewer --lanes need less: {error}" in capsys.readouterr().err


def test_held_out_text_is_not_pretrained_on(corpus: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for name in ("a", "b", "c"):
        (others / f"{name}.txt").write_text(TEXT)
    held_out = ("--valid", str(others / "b.txt"), "--test", str(others / "c.txt"))
    assert train(corpus, tmp_path / "run", "--steps", "2", "--pretrain", str(others), *held_out) == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint").config.training["books"]["pretrain"] == ["a"]


def test_books_that_a_split_holds_out_are_not_pretrained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for name in ("a", "b", "c"):
        (others / f"{name}.txt").write_text(TEXT)
    options = ("--steps", "2", "--pretrain", str(others), "--split-files")
    assert train(others, tmp_path / "run", *options) == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint").config.training["books"]["pretrain"] == ["a"]
    assert train(others, tmp_path / "run", "--split-files", "--pretrain", str(others / "b.txt")) == 2
    assert "but all of them hold validation or test text" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "unknown"), [("word", "deliberations"), ("char", "Ω")])
def test_a_closed_vocabulary_has_all_that_the_books_have_unless_a_size_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, unknown: str
) -> None:
    (tmp_path / "book.txt").write_text(TEXT * 20)
    (tmp_path / "valid.txt").write_text(f"{TEXT} {unknown}")
    sizes = [f"--{name}={value}" for name, value in SIZES.items() if name != "vocab-size"]
    options = ["--valid", str(tmp_path / "valid.txt"), "--out", str(tmp_path / "run"), "--tokenizer", kind]
    assert main(["train", str(tmp_path / "book.txt"), *options, "--quiet", "--steps", "2", *sizes]) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint")
    ids = checkpoint.tokenizer.encode(f"{TEXT} {unknown}")
    assert ids.count(checkpoint.tokenizer.unknown_id) == 1
    assert 0 < checkpoint.config.training["oov_rates"]["valid"] < 0.01
    assert "of validation tokens 0." in capsys.readouterr().out
    assert "Not in its vocabulary: 0." in (tmp_path / "run" / "checkpoint" / "README.md").read_text()


def test_a_title_that_is_no_unicode_is_still_told(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "caf\udce9 noir.txt").write_text(TEXT)
    assert train(tmp_path / "books", tmp_path / "run", "--steps", "2") == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint").config.training["books"]["train"] == ["caf? noir"]


@pytest.mark.parametrize("device", ["warp-drive", "cuda:99"])
def test_a_device_that_is_not_there_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert train(corpus, tmp_path / "run", "--device", device) == 2
    assert f"got '{device}'" in capsys.readouterr().err


def test_a_run_cannot_begin_from_its_own_folder(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(corpus, out, "--steps", "2") == 0
    sizes = ("--lanes", "4", "--bptt", "16", "--dropout", "0")
    assert main(["train", str(corpus), "--out", str(out), "--from", str(out), "--steps", "2", *sizes]) == 2
    assert "--from must be another folder than --out" in capsys.readouterr().err


def test_books_whose_names_are_no_utf8_train(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("Once upon a time there was a fox.\n" * 40)
    assert train(tmp_path / name, tmp_path / "run", "--steps", "2") == 0
    assert "caf?.txt" in (tmp_path / "run" / "checkpoint" / "README.md").read_text()
