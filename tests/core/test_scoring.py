"""The score of a text is what the network says of it, whatever the windows it is read in."""

import math
from pathlib import Path
from statistics import fmean

import pytest
import torch

from core import scoring
from core.checkpoint import load_checkpoint
from tests.tiny import TEXT


def test_the_scores_are_those_of_one_whole_forward_pass(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    text = TEXT[:300]
    ids = [checkpoint.tokenizer.document_id, *checkpoint.tokenizer.encode(text)]
    with torch.inference_mode():
        logits, _ = checkpoint.model(torch.tensor(ids[:-1]).unsqueeze(1), checkpoint.model.init_state(1))
    expected = logits[:, 0].log_softmax(-1)[range(len(ids) - 1), ids[1:]].tolist()
    for window in (1, 7, 1000):
        monkeypatch.setattr(scoring, "_WINDOW", window)
        scored = scoring.score(checkpoint, text, top=2)
        assert [token.id for token in scored] == ids[1:]
        assert "".join(token.text for token in scored) == text
        assert [token.logprob for token in scored] == pytest.approx(expected, abs=1e-4)
        assert all(token.top[0].logprob >= max(token.logprob, token.top[1].logprob) for token in scored)


def test_the_tokens_of_a_text_join_to_it_as_text_and_as_bytes(tiny_checkpoint: Path) -> None:
    text = "“Café,” said the 🦊."
    scored = scoring.score(load_checkpoint(tiny_checkpoint), text, top=0)
    assert "" in [token.text for token in scored]
    assert "".join(token.text for token in scored) == text
    assert b"".join(token.bytes for token in scored) == text.encode()


def test_an_empty_text_has_no_scores(tiny_checkpoint: Path) -> None:
    assert scoring.score(load_checkpoint(tiny_checkpoint), "", top=0) == []


def test_a_text_learned_by_heart_is_likelier_than_a_jumble(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    texts = ("Once upon a time there was a small grey donkey", "donkey a there small was Once grey time upon a")
    learned, jumble = (fmean(token.logprob for token in scoring.score(checkpoint, text, top=0)) for text in texts)
    assert learned > jumble + math.log(2)
