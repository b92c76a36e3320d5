"""Books are read in the order that a person would read them, and damage is named."""

from pathlib import Path

import pytest

from core.errors import CorpusError
from trainer.corpus import read_documents


def test_chapters_come_in_natural_order_through_nested_folders(tmp_path: Path) -> None:
    for name in ("b/chapter_10.txt", "b/chapter_2.txt", "a 10/x.txt", "a 9/x.txt", "Part1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    names = [str(document.path.relative_to(tmp_path)) for document in read_documents(tmp_path)]
    assert names == ["a 9/x.txt", "a 10/x.txt", "b/chapter_2.txt", "b/chapter_10.txt", "Part1.txt"]


def test_one_file_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text("A book.")
    assert [document.text for document in read_documents(tmp_path / "book.md")] == ["A book."]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOnce")
    assert read_documents(tmp_path)[0].text == "Once"


def test_line_ends_are_kept_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n")
    assert read_documents(tmp_path)[0].text == "one\r\ntwo\n"


def test_invalid_utf8_is_named_with_file_byte_and_offset(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(CorpusError, match=r"latin\.txt: expected UTF-8, got byte 0xe9 at offset 3"):
        read_documents(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b" \n\n"])
def test_a_corpus_without_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(CorpusError, match="expected"):
        read_documents(tmp_path)


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nothing: .*/gone"):
        read_documents(tmp_path / "gone")
