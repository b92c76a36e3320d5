"""Ids on disk are the ids of the whole text, however long it is."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from core.tokenizer import Tokenizer
from tests.tiny import TEXT
from trainer.tokens import read_ids, stretches, write_ids

TOKENIZER = Tokenizer.train([TEXT], vocab_size=400)


def test_books_stand_between_document_ids_with_their_counts(tmp_path: Path) -> None:
    counts = write_ids(tmp_path / "a.ids", ["The fox.", "The sea: 日"], TOKENIZER)
    ids, again = read_ids(tmp_path / "a.ids")
    boundary = TOKENIZER.document_id
    fox, sea = TOKENIZER.encode("The fox."), TOKENIZER.encode("The sea: 日")
    assert ids.tolist() == [boundary, *fox, boundary, *sea, boundary]
    assert counts == again
    assert (counts.tokens, counts.words, counts.bytes) == (len(fox) + len(sea), 5, 8 + 12)


@given(st.text(alphabet="ab \n"), st.integers(1, 10))
def test_stretches_are_the_text_and_cut_no_piece(text: str, length: int) -> None:
    parts = list(stretches(text, length))
    assert "".join(parts) == text
    assert [id for part in parts for id in TOKENIZER.encode(part)] == TOKENIZER.encode(text)
    assert sum(len(part.split()) for part in parts) == len(text.split())


def test_a_long_text_is_cut_into_stretches() -> None:
    parts = list(stretches(TEXT * 3, 500))
    assert len(parts) > 5
    assert all(part.endswith("\n\n") for part in parts[:-1])
