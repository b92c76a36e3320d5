"""Ids on disk are the ids of the whole text, however long it is."""

from pathlib import Path

import numpy as np
import pytest

from core.tokenizer import Tokenizer
from tests.tiny import TEXT
from trainer.tokens import count_ids, find_id, read_ids, write_ids

TOKENIZER = Tokenizer.train([TEXT], vocab_size=400)


def test_books_stand_between_document_ids_with_their_counts(tmp_path: Path) -> None:
    counts = write_ids(tmp_path / "a.ids", [["The", " fox."], ["The sea: 日"]], TOKENIZER)
    ids, again = read_ids(tmp_path / "a.ids")
    boundary = TOKENIZER.document_id
    fox, sea = TOKENIZER.encode("The fox."), TOKENIZER.encode("The sea: 日")
    assert ids.tolist() == [boundary, *fox, boundary, *sea, boundary]
    assert counts == again
    assert (counts.tokens, counts.words, counts.bytes) == (len(fox) + len(sea), 5, 8 + 12)


def test_ids_are_counted_and_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.tokens._BLOCK", 2)
    ids = np.array([3, 1, 1, 0, 3], np.uint32)
    assert count_ids(ids, 5).tolist() == [1, 2, 0, 2, 0]
    assert find_id(ids, 3).tolist() == [0, 4]
    assert find_id(ids, 2).tolist() == []
