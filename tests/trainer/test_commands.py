"""The commands as a person types them, end to end on a page of text."""

import json
import shutil
from pathlib import Path

import pytest

from core.checkpoint import load_checkpoint
from tests.tiny import TEXT
from trainer.__main__ import main


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "one.txt").write_text(TEXT)
    (folder / "two.txt").write_text(TEXT[::-1])
    return folder


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def test_index_writes_the_books_into_a_checkpoint(
    checkpoint: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_checkpoint(checkpoint).novelty is None
    assert main(["index", str(checkpoint), str(books)]) == 0
    assert "runs of 6 words (all of them)" in capsys.readouterr().out
    novelty = load_checkpoint(checkpoint).novelty
    assert novelty is not None
    assert novelty.copied(TEXT).share == 1


def test_index_refuses_what_is_no_checkpoint(books: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(books), str(books)]) == 2
    assert "expected a checkpoint folder with a config.json" in capsys.readouterr().err


def test_training_writes_the_index_too(books: Path, tmp_path: Path) -> None:
    arguments = [
        "train",
        str(books),
        f"--out={tmp_path / 'run'}",
        "--preset=fast",
        "--steps=2",
        "--split=90/5/5",
        "--quiet",
    ]
    sizes = ["--vocab-size=300", "--embedding-size=16", "--hidden-size=16", "--layers=1", "--dropout=0", "--lanes=4"]
    assert main([*arguments, *sizes]) == 0
    novelty = load_checkpoint(tmp_path / "run" / "checkpoint").novelty
    assert novelty is not None
    assert novelty.copied(TEXT[: len(TEXT) // 2]).share == pytest.approx(1, abs=0.02)


def test_eval_reports_memory_in_columns_of_its_own(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("valid", "test"):
        (tmp_path / f"{name}.txt").write_text("The lantern sang to the goose. The goose sang to the lantern. " * 3)
    tuning = ["--tune-on", str(tmp_path / "valid.txt"), "--tune-tokens", "100"]
    options = ["--cache", "--dynamic", "--segment", "5", *tuning, "--json"]
    assert main(["eval", str(checkpoint), str(tmp_path / "test.txt"), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cache_and_dynamic"]["nats"] < report["nats"]
    assert report["cache"]["settings"].keys() == {"window", "flatness", "share"}
    assert report["dynamic"]["settings"]["segment"] == 5
    for kind in ("cache", "dynamic", "cache_and_dynamic"):
        assert report[kind]["bits_per_byte"] / report[kind]["nats"] == pytest.approx(
            report["bits_per_byte"] / report["nats"]
        )


def test_memory_without_validation_text_is_refused(
    checkpoint: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoint), str(books), "--cache"]) == 2
    assert "--cache and --dynamic need --tune-on with validation text" in capsys.readouterr().err


def test_floors_are_lower_for_a_text_that_was_read(
    checkpoint: Path, books: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.txt").write_text("Nobody had ever told the miller's daughter why geese fly south in winter.")
    measured = []
    for text in (books / "one.txt", tmp_path / "new.txt"):
        assert main(["floors", str(books), str(text), "--tokenizer", str(checkpoint), "--json"]) == 0
        measured.append(json.loads(capsys.readouterr().out))
    assert list(measured[0]) == ["modified Kneser-Ney 5-gram", "PPMd order 8, primed", "xz, primed"]
    for floor in measured[0]:
        assert measured[0][floor]["bits_per_byte"] < measured[1][floor]["bits_per_byte"] / 1.5


def test_sampling_prints_a_table(
    checkpoint: Path, books: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.choose_sampling.choose.__kwdefaults__", {"grid": ({"temperature": 0.9},)})
    options = ["--passages", "4", "--prompt-words", "5", "--words", "20"]
    assert (
        main(["sampling", str(checkpoint), "--books", str(books), "--held-out", str(books / "one.txt"), *options]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("| **human** |")


def test_clean_says_what_it_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw.txt").write_bytes(b"Caf\xe9 &amp; cake")
    assert main(["clean", str(tmp_path / "raw.txt"), str(tmp_path / "clean"), "--no-entities"]) == 0
    assert capsys.readouterr().out == "raw.txt: windows-1252, 1 lines were no UTF-8\n"
    assert (tmp_path / "clean" / "raw.txt").read_text() == "Café &amp; cake\n"


def test_fetch_reports_what_could_not_be_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fetch", "gutenberg", "11", "--out", str(tmp_path), "--mirror", "http://127.0.0.1:1"]
    assert main(arguments) == 1
    assert "http://127.0.0.1:1: cannot be reached" in capsys.readouterr().err
