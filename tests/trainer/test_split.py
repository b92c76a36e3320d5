"""Every character of the corpus lands in exactly one part."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import CorpusError
from trainer.corpus import Document
from trainer.split import split_contiguous, split_files, split_named

SHARES = (0.7, 0.15, 0.15)


def _documents(*texts: str) -> list[Document]:
    return [Document(path=Path(f"{number}.txt"), text=text) for number, text in enumerate(texts)]


@given(st.lists(st.text("ab\n", min_size=1), min_size=1, max_size=5))
def test_a_contiguous_split_keeps_every_character_in_order(texts: list[str]) -> None:
    try:
        split = split_contiguous(_documents(*texts), SHARES)
    except CorpusError:
        text = "".join(texts)
        assert len(text) * SHARES[1] < 1 or "\n" in text  # less than a character, or lines as long as the part
        return
    assert "".join(split.train + split.valid + split.test) == "".join(texts)


def test_a_contiguous_split_has_the_shares_and_ends_on_lines() -> None:
    split = split_contiguous(_documents("word word\n" * 1000), SHARES)
    assert [sum(map(len, part)) for part in (split.train, split.valid, split.test)] == [7000 + 10, 1500, 1500 - 10]
    assert split.train[0].endswith("\n")


def test_a_corpus_of_one_long_line_is_cut_where_it_stands() -> None:
    split = split_contiguous(_documents("x" * 10_000), SHARES)
    assert [len(split.train[0]), len(split.valid[0]), len(split.test[0])] == [7000, 1500, 1500]


def test_a_corpus_too_small_to_cut_says_so() -> None:
    with pytest.raises(CorpusError, match="got 1 characters"):
        split_contiguous(_documents("x"), SHARES)


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_whole_files_stay_whole_and_every_part_gets_one(count: int) -> None:
    texts = [f"book {number} " * 50 for number in range(count)]
    split = split_files(_documents(*texts), SHARES)
    assert split.train + split.valid + split.test == texts
    assert split.train
    assert split.valid
    assert split.test


def test_one_giant_file_leaves_the_others_for_validation_and_test() -> None:
    split = split_files(_documents("x" * 10_000, "y", "z"), SHARES)
    assert (split.valid, split.test) == (["y"], ["z"])


def test_two_files_cannot_be_split_in_three() -> None:
    with pytest.raises(CorpusError, match=r"at least 3 files .* got 2"):
        split_files(_documents("a", "b"), SHARES)


def test_named_files_inside_the_corpus_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    split = split_named(tmp_path, tmp_path / "b.txt", tmp_path / "c.txt")
    assert (split.train, split.valid, split.test) == (["a"], ["b"], ["c"])


def test_named_folders_inside_the_corpus_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    split = split_named(tmp_path, tmp_path / "valid", None)
    assert (split.train, split.valid, split.test) == (["train"], ["valid"], [])
