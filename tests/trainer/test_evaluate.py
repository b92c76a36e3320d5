"""The figures of `eval` are those of the raw text, whatever stands beside it."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from core.checkpoint import CheckpointConfig, load_checkpoint, save_checkpoint
from core.models import build_model
from core.tokenizer import Tokenizer
from tests.tiny import TEXT
from trainer.__main__ import main
from trainer.evaluate import score_texts


def _eval(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    figures: dict[str, object] = json.loads(capsys.readouterr().out)
    return figures


def test_figures_match_a_plain_pass_over_the_text(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "The donkey asked the fox:\n\n“Where is the sea?”  日本\n"
    (tmp_path / "a.txt").write_text(text)
    figures = _eval(capsys, tiny_checkpoint, tmp_path / "a.txt")
    checkpoint = load_checkpoint(tiny_checkpoint)
    ids = [checkpoint.tokenizer.document_id, *checkpoint.tokenizer.encode(text)]
    state, nats = checkpoint.model.init_state(1), 0.0
    for id, wanted in pairwise(ids):
        logits, state = checkpoint.model(torch.tensor([[id]]), state)
        nats -= float(logits[0, 0].log_softmax(0)[wanted].detach())
    assert figures["nats"] == pytest.approx(nats, rel=1e-4)
    assert figures["tokens"] == len(ids) - 1
    assert figures["words"] == 10
    assert figures["bytes"] == len(text.encode())
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-4)
    assert figures["word_perplexity"] == pytest.approx(math.exp(nats / 10), rel=1e-3)
    assert figures["token_perplexity"] == pytest.approx(math.exp(nats / (len(ids) - 1)), rel=1e-3)
    assert "oov_rate" not in figures


def test_texts_beside_each_other_do_not_change_each_other(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "long.txt").write_text(TEXT * 3)
    (tmp_path / "short.txt").write_text("The sea.")
    alone = [_eval(capsys, tiny_checkpoint, tmp_path / name)["nats"] for name in ("short.txt", "long.txt")]
    together = _eval(capsys, tiny_checkpoint, tmp_path / "short.txt", tmp_path / "long.txt")
    texts = together["texts"]
    assert isinstance(texts, list)
    assert [text["nats"] for text in texts] == pytest.approx(alone, rel=1e-4)
    assert together["nats"] == pytest.approx(sum(text["nats"] for text in texts))


def test_more_texts_than_stand_side_by_side_are_all_read(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    texts = [TEXT[: 40 + number] for number in range(70)]
    scores = score_texts(checkpoint.model, checkpoint.tokenizer, texts)
    (alone,) = score_texts(checkpoint.model, checkpoint.tokenizer, texts[3:4])
    assert [score.bytes for score in scores] == [len(text.encode()) for text in texts]
    assert scores[3].nats == pytest.approx(alone.nats, rel=1e-4)


def test_a_window_border_changes_nothing(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    wide = _eval(capsys, tiny_checkpoint, tmp_path / "a.txt")
    monkeypatch.setattr("trainer.evaluate._WINDOW", 7)
    assert _eval(capsys, tiny_checkpoint, tmp_path / "a.txt")["nats"] == pytest.approx(wide["nats"], rel=1e-4)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    for tensor in checkpoint.model.state_dict().values():
        tensor.zero_()
    uniform = tmp_path / "uniform"
    save_checkpoint(
        uniform, model=checkpoint.model, tokenizer=checkpoint.tokenizer, config=checkpoint.config, card="# uniform\n"
    )
    (tmp_path / "a.txt").write_text(TEXT)
    figures = _eval(capsys, uniform, tmp_path / "a.txt")
    assert figures["token_perplexity"] == pytest.approx(checkpoint.tokenizer.vocab_size, rel=1e-3)


def test_a_closed_vocabulary_reports_its_oov_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text(TEXT * 2)
    options = [
        "--vocab-size",
        "400",
        "--embedding-size",
        "8",
        "--hidden-size",
        "8",
        "--layers",
        "1",
        "--dropout",
        "0",
        "--lanes",
        "2",
        "--quiet",
    ]
    run = tmp_path / "run"
    assert (
        main(["train", str(tmp_path / "books"), "--out", str(run), "--tokenizer", "word", "--steps", "1", *options])
        == 0
    )
    (tmp_path / "b.txt").write_text("the donkey and the xylophone")
    capsys.readouterr()
    figures = _eval(capsys, run / "checkpoint", tmp_path / "b.txt")
    assert (figures["oov_tokens"], figures["oov_rate"]) == (1, pytest.approx(1 / 5))
    assert main(["eval", str(run / "checkpoint"), str(tmp_path / "b.txt")]) == 0
    assert "without OOV" in capsys.readouterr().out


def test_perplexities_are_those_worked_out_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output bias alone decides: p("the") = 1/2, p("<unk>") = 1/4, p("sea") = p("wind") = 1/8."""
    tokenizer = Tokenizer.train(["the sea the sea the wind the wind the the"], vocab_size=20, kind="word")
    config = {"vocab_size": tokenizer.vocab_size, "document_id": tokenizer.document_id, "embedding_size": 2}
    model = build_model("lstm", config | {"hidden_size": 2, "layers": 1, "dropout": 0.0})
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
        model.output_bias.fill_(-1e4)
        for word, share in (("the", 1 / 2), (" sea", 1 / 8), ("wind", 1 / 8)):
            model.output_bias[tokenizer.encode(word)] = math.log(share)
        model.output_bias[tokenizer.unknown_id] = math.log(1 / 4)
    save_checkpoint(
        tmp_path / "hand",
        model=model,
        tokenizer=tokenizer,
        config=CheckpointConfig(architecture="lstm", model=config | {"hidden_size": 2, "layers": 1, "dropout": 0.0}),
        card="# hand\n",
    )
    (tmp_path / "a.txt").write_text("the sea the dragon")  # 1/2, 1/8, 1/2, and 1/4 for a word that is not known
    figures = _eval(capsys, tmp_path / "hand", tmp_path / "a.txt")
    assert (figures["tokens"], figures["words"], figures["bytes"], figures["oov_rate"]) == (4, 4, 18, 0.25)
    assert figures["nats"] == pytest.approx(math.log(2 * 8 * 2 * 4), rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(7 / 18, rel=1e-5)
    assert figures["word_perplexity"] == pytest.approx(128 ** (1 / 4), rel=1e-5)
    assert figures["token_perplexity_without_oov"] == pytest.approx(32 ** (1 / 3), rel=1e-5)
    assert figures["word_perplexity_without_oov"] == pytest.approx(32 ** (1 / 3), rel=1e-5)


def test_a_table_is_printed_for_people(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("The sea.")
    assert main(["eval", str(tiny_checkpoint), str(tmp_path / "a.txt")]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["text", "a.txt", "all"]


def test_a_missing_checkpoint_or_text_is_one_line(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("The sea.")
    assert main(["eval", str(tmp_path / "gone"), str(tmp_path / "a.txt")]) == 2
    assert "expected a checkpoint directory, found nothing" in capsys.readouterr().err
    assert main(["eval", str(tiny_checkpoint), str(tmp_path / "gone.txt")]) == 2
    assert "found nothing" in capsys.readouterr().err


def test_memory_is_not_chosen_on_what_is_measured(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    arguments = ["eval", str(tiny_checkpoint), str(tmp_path / "a.txt"), "--cache", "--tune-on", str(tmp_path)]
    assert main(arguments) == 2
    assert f"--tune-on must name text that is not measured itself, got {tmp_path}" in capsys.readouterr().err
