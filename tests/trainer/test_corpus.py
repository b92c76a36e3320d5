"""Books are read in the order that a person would read them, a stretch at a time, and damage is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import CorpusError
from core.tokenizer import Tokenizer
from tests.tiny import TEXT
from trainer.corpus import read_documents, stretches

TOKENIZER = Tokenizer.train([TEXT], vocab_size=400)


def test_chapters_come_in_natural_order_through_nested_folders(tmp_path: Path) -> None:
    for name in ("b/chapter_10.txt", "b/chapter_2.txt", "a 10/x.txt", "a 9/x.txt", "Part1.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    names = [str(document.path.relative_to(tmp_path)) for document in read_documents(tmp_path)]
    assert names == ["a 9/x.txt", "a 10/x.txt", "b/chapter_2.txt", "b/chapter_10.txt", "Part1.TXT"]


def test_linked_folders_are_read_once_and_links_to_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "books" / "①").mkdir(parents=True)
    (tmp_path / "series").mkdir()
    (tmp_path / "books" / "①" / "vol²3.txt").write_text("One.")
    (tmp_path / "series" / "b.txt").write_text("Two.")
    (tmp_path / "books" / "c.txt").write_text("Three.")
    for name in ("linked", "linked again"):
        (tmp_path / "books" / name).symlink_to(tmp_path / "series")
    (tmp_path / "series" / "round").symlink_to(tmp_path / "books")
    assert sorted(document.read() for document in read_documents(tmp_path / "books")) == ["One.", "Three.", "Two."]
    (tmp_path / "series" / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"gone\.txt: expected a text file, got a link to nothing"):
        read_documents(tmp_path / "books")


def test_what_is_hidden_is_no_book_and_a_linked_book_is_read_once(tmp_path: Path) -> None:
    books = tmp_path / ".books"
    for name in ("a.txt", "._a.txt", ".ipynb_checkpoints/a-checkpoint.txt", ".Trash-1000/files/b.txt"):
        (books / name).parent.mkdir(parents=True, exist_ok=True)
        (books / name).write_text(name)
    (books / "favourites").mkdir()
    (books / "favourites" / "a.txt").symlink_to(books / "a.txt")
    assert [document.read() for document in read_documents(books)] == ["a.txt"]


def test_one_file_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text("A book.")
    assert [document.read() for document in read_documents(tmp_path / "book.md")] == ["A book."]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOnce")
    assert read_documents(tmp_path)[0].read() == "Once"


def test_line_ends_of_windows_are_read_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.corpus._BLOCK_BYTES", 4)  # one falls between \r and \n
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n\r\nthree\n")
    assert read_documents(tmp_path)[0].read() == "one\ntwo\n\nthree\n"


def test_invalid_utf8_is_named_with_file_byte_and_offset(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(CorpusError, match=r"latin\.txt: expected UTF-8, got byte 0xe9 at offset 3"):
        read_documents(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("déjà vu".encode() + b" \xe9 ", "byte 0xe9 at offset 10"),
        ("日本".encode()[:-1], "within the character at offset 3"),
    ],
)
def test_offsets_are_those_of_the_file_wherever_blocks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    for size in range(1, 12):
        monkeypatch.setattr("trainer.corpus._BLOCK_BYTES", size)
        with pytest.raises(CorpusError, match=message):
            read_documents(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xef\xbb\xbf\r\n"])
def test_a_corpus_without_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(CorpusError, match="expected"):
        read_documents(tmp_path)


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nothing: .*/gone"):
        read_documents(tmp_path / "gone")


@given(st.text(alphabet="ab é日\n"), st.integers(1, 10))
def test_stretches_are_the_text(text: str, length: int) -> None:
    blocks = [text[start : start + 7] for start in range(0, len(text), 7)]
    assert "".join(stretches(blocks, length)) == text
    assert all(
        0 < len(part) <= 3 * length + 7 or set(part) <= {*part.rstrip("\n"), "\n"} for part in stretches(blocks, length)
    )


@given(st.lists(st.sampled_from(["ab", "a", "\n", "\n\n", " ", "b b"]), max_size=60), st.integers(8, 20))
def test_a_text_with_spaces_is_cut_between_pieces_and_words(units: list[str], length: int) -> None:
    text = "a ".join(units)
    parts = list(stretches([text], length))
    assert [id for part in parts for id in TOKENIZER.encode(part)] == TOKENIZER.encode(text)
    assert sum(len(part.split()) for part in parts) == len(text.split())


def test_a_long_text_is_cut_after_paragraphs() -> None:
    parts = list(stretches([TEXT * 3], 500))
    assert len(parts) > 5
    assert all(part.endswith("\n\n") for part in parts[:-1])


def test_a_text_without_any_break_is_cut_where_it_stands() -> None:
    assert [len(part) for part in stretches(["x" * 1000] * 3, 400)] == [400] * 6 + [600]
