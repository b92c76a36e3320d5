"""A run goes on from a trained model: the named one, or the one that ships where it suits the books."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.checkpoint import load_checkpoint
from core.engines import SHIPPED
from tests.tiny import TEXT, make_tiny_checkpoint
from trainer.__main__ import _parser, main
from trainer.corpus import read_documents
from trainer.start import choose_start

SIZES = ["--vocab-size=400", "--embedding-size=16", "--hidden-size=24", "--layers=2"]
SHAPE = ["--quiet", "--validations=2", "--lanes=4", "--bptt=16", "--dropout=0.1"]
GERMAN = (
    "Es war einmal ein alter König, der hatte drei Söhne. Der jüngste aber war der klügste, und als er das Schloss "
    "verlassen musste, da weinten sogar die Frösche im Brunnen und die Krähen über dem verschneiten Wald.\n\n"
)


@pytest.fixture(scope="module")
def first(lasting_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run from whose model others go on; none of them writes there."""
    out = tmp_path_factory.mktemp("start") / "first"
    assert _train(lasting_corpus, out, "--steps=60", "--learning-rate=0.01", *SIZES) == 0
    return out


def _train(corpus: Path, out: Path, *options: str) -> int:
    return main(["train", str(corpus), "--out", str(out), *SHAPE, *options])


def _chosen(corpus: Path, *options: str) -> str | None:
    args = _parser().parse_args(["train", str(corpus), "--out", "run", *options])
    start = choose_start(args, read_documents(corpus))
    return None if start is None else start.name


def test_it_goes_on_with_weights_and_vocabulary_and_says_from_where(corpus: Path, first: Path, tmp_path: Path) -> None:
    assert _train(corpus, tmp_path / "second", "--steps=20", f"--from={first}") == 0
    before, after = (load_checkpoint(folder / "checkpoint") for folder in (first, tmp_path / "second"))
    assert after.config.tokenizer_sha256 == before.config.tokenizer_sha256
    assert after.config.model["hidden_size"] == 24
    best = min(point["valid_loss"] for point in before.config.training["history"])
    assert after.config.training["history"][0]["valid_loss"] < best + 0.1
    assert after.config.training["start"]["name"] == "first"
    assert after.config.training["start"]["corpus"] == before.config.training["corpus"]
    card = (tmp_path / "second" / "checkpoint" / "README.md").read_text()
    assert "gone on from *first*, which had learned from the same books" in card
    assert "Books of the training part: book_0, book_1, book_2." in card


def test_held_out_books_that_were_read_before_are_named(
    corpus: Path, first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first run split one corpus: it learned from books 0 to 2, the last one also holds its validation text."""
    other = tmp_path / "other.txt"
    other.write_text(TEXT)
    for held_out, named in ((corpus / "book_1.txt", "book_1"), (other, None)):
        out = tmp_path / f"from_{held_out.stem}"
        assert _train(corpus, out, "--steps=2", f"--from={first}", f"--valid={held_out}") == 0
        assert load_checkpoint(out / "checkpoint").config.training.get("read_before") == (named and [named])
        said = "*first* had read these held-out books"
        assert ((out / "checkpoint" / "README.md").read_text().count(said) == 1) is (named is not None)
    assert "first has read held-out books, and will look too good on them: book_1" in caplog.text
    assert caplog.text.count("held-out") == 1


def test_a_resumed_run_that_went_on_from_another_is_exact(corpus: Path, first: Path, tmp_path: Path) -> None:
    assert _train(corpus, tmp_path / "whole", "--steps=20", f"--from={first}") == 0
    assert _train(corpus, tmp_path / "parts", "--steps=20", f"--from={first}", "--stop-at-step=10") == 1
    assert _train(corpus, tmp_path / "parts", "--steps=20", f"--from={first}", "--resume") == 0
    whole, parts = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_it_goes_on_from_a_checkpoint_that_says_nothing_of_its_training(corpus: Path, tmp_path: Path) -> None:
    other = make_tiny_checkpoint(tmp_path / "other", steps=1)
    assert _train(corpus, tmp_path / "second", "--steps=2", f"--from={other}") == 0
    assert "gone on from *other*" in (tmp_path / "second" / "checkpoint" / "README.md").read_text()


def test_options_that_ask_for_another_network_are_named(
    corpus: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (f"--from={first}", "--hidden-size=32", "--layers=2", "--tokenizer=word")
    assert _train(corpus, tmp_path / "second", *options) == 2
    assert "leave out --hidden-size, --tokenizer" in capsys.readouterr().err


def test_a_start_that_is_not_there_is_said(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(corpus, tmp_path / "second", "--from=nowhere") == 2
    assert "expected a checkpoint directory, found nothing" in capsys.readouterr().err


def test_the_model_that_ships_is_taken_for_books_it_can_read(corpus: Path) -> None:
    assert _chosen(corpus) == "fable"


@pytest.mark.parametrize("option", ["--from=nothing", "--pretrain=others", "--hidden-size=64", "--tokenizer=word"])
def test_it_is_not_taken_where_something_else_is_asked_for(corpus: Path, option: str) -> None:
    assert _chosen(corpus, option) is None


def test_it_is_not_taken_for_another_language(tmp_path: Path) -> None:
    (tmp_path / "grimm.txt").write_text(GERMAN * 50)
    assert _chosen(tmp_path) is None


def test_it_is_not_taken_for_more_text_than_it_has_read(tmp_path: Path) -> None:
    read = load_checkpoint(SHIPPED / "fable").config.training["corpus"]
    size = sum(counts["bytes"] for part, counts in read.items() if part in ("train", "pretrain"))
    with (tmp_path / "library.txt").open("w") as file:
        for _ in range(size // len(TEXT.encode()) + 1):
            file.write(TEXT)
    assert _chosen(tmp_path) is None


def test_a_run_without_wishes_goes_on_from_it(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(corpus, tmp_path / "mine", "--steps=2") == 0
    assert "goes on from" in capsys.readouterr().out
    start = load_checkpoint(tmp_path / "mine" / "checkpoint").config.training["start"]
    assert start["name"] == "fable"
