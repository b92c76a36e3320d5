"""Every character of the corpus lands in exactly one part."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import CorpusError
from trainer.corpus import Document
from trainer.split import split_contiguous, split_files, split_named

SHARES = (0.7, 0.15, 0.15)


def _documents(folder: Path, *texts: str) -> list[Document]:
    documents = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.txt"
        path.write_bytes(text.encode())
        documents.append(Document(path=path, start=0, end=len(text.encode())))
    return documents


def _texts(documents: list[Document]) -> list[str]:
    return [document.read() for document in documents]


@given(st.lists(st.text("aé\n", min_size=1), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_contiguous_split_keeps_every_character_in_order(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        documents = _documents(Path(folder), *texts)
        try:
            split = split_contiguous(documents, SHARES)
        except CorpusError:
            assert sum(document.size for document in documents) * SHARES[1] < 3  # half a character, one on each side
            return
        assert "".join(_texts(split.train + split.valid + split.test)) == "".join(texts)


def test_a_contiguous_split_has_the_shares_and_ends_on_lines(tmp_path: Path) -> None:
    split = split_contiguous(_documents(tmp_path, "word word\n" * 1000), SHARES)
    assert [sum(document.size for document in part) for part in (split.train, split.valid, split.test)] == [
        7000 + 10,
        1500,
        1500 - 10,
    ]
    assert split.train[0].read().endswith("\n")


def test_a_corpus_of_one_long_line_is_cut_where_it_stands(tmp_path: Path) -> None:
    split = split_contiguous(_documents(tmp_path, "x" * 10_000 + "\n"), SHARES)
    assert [split.train[0].size, split.valid[0].size, split.test[0].size] == [7001, 1500, 1500]


def test_a_corpus_too_small_to_cut_says_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="got 1 bytes"):
        split_contiguous(_documents(tmp_path, "x"), SHARES)


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_whole_files_stay_whole_and_every_part_gets_one(tmp_path: Path, count: int) -> None:
    documents = _documents(tmp_path, *(f"book {number} " * 50 for number in range(count)))
    split = split_files(documents, SHARES)
    assert split.train + split.valid + split.test == documents
    assert split.train
    assert split.valid
    assert split.test


def test_one_giant_file_leaves_the_others_for_validation_and_test(tmp_path: Path) -> None:
    documents = _documents(tmp_path, "x" * 10_000, "y", "z")
    split = split_files(documents, SHARES)
    assert (split.train, split.valid, split.test) == ([documents[0]], [documents[1]], [documents[2]])


def test_two_files_cannot_be_split_in_three(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"at least 3 files .* got 2"):
        split_files(_documents(tmp_path, "a", "b"), SHARES)


def test_named_files_inside_the_corpus_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    split = split_named(tmp_path, tmp_path / "b.txt", tmp_path / "c.txt")
    assert [_texts(part) for part in (split.train, split.valid, split.test)] == [["a"], ["b"], ["c"]]


def test_named_folders_inside_the_corpus_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    split = split_named(tmp_path, tmp_path / "valid", None)
    assert [_texts(part) for part in (split.train, split.valid, split.test)] == [["train"], ["valid"], []]


def test_books_that_links_in_a_named_folder_lead_to_are_not_trained_on(tmp_path: Path) -> None:
    for folder in ("books", "valid", "test"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "books" / f"{name}.txt").write_text(name)
    (tmp_path / "valid" / "b.txt").symlink_to(tmp_path / "books" / "b.txt")
    (tmp_path / "test" / "c.txt").symlink_to(tmp_path / "books" / "c.txt")
    split = split_named(tmp_path / "books", tmp_path / "valid", tmp_path / "test")
    assert [_texts(part) for part in (split.train, split.valid, split.test)] == [["a"], ["b"], ["c"]]


def test_named_test_text_inside_the_validation_folder_does_not_choose_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "held" / "test").mkdir(parents=True)
    for name in ("book.txt", "held/valid.txt", "held/test/test.txt"):
        (tmp_path / name).write_text(name)
    split = split_named(tmp_path, tmp_path / "held", tmp_path / "held" / "test")
    assert _texts(split.train) == ["book.txt"]
    assert _texts(split.valid) == ["held/valid.txt"]
    assert _texts(split.test) == ["held/test/test.txt"]
    with pytest.raises(CorpusError, match=r"expected validation text in .* beside the test files, found none"):
        split_named(tmp_path, tmp_path / "held" / "test", tmp_path / "held")


def test_whole_files_without_a_test_part_are_split_in_two(tmp_path: Path) -> None:
    split = split_files(_documents(tmp_path, *["A line. " * 10] * 3), (0.6, 0.4, 0.0))
    assert (len(split.train), len(split.valid), len(split.test)) == (2, 1, 0)
