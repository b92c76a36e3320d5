"""What is copied from the books is found, what is not is left alone, at the stated rate and size."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.checkpoint import load_checkpoint, save_checkpoint
from core.errors import CheckpointError
from core.novelty import FILE_NAME, NoveltyIndex, Span
from tests.tiny import make_tiny_checkpoint

BOOK = (
    "The tinker's cat had three moons on her collar, and a key that opened nothing. "
    'She said, "Nothing is the hardest door of all," and went out by the window into the snow.'
)


def words(count: int, seed: int) -> str:
    """Text of random made-up words; two seeds share no run of six."""
    random = Random(seed)
    return " ".join(f"w{random.randrange(5000)}" for _ in range(count))


@pytest.fixture(scope="module")
def index() -> NoveltyIndex:
    return NoveltyIndex.build([BOOK, words(20_000, seed=1)])


def test_a_copied_run_is_found_to_the_character(index: NoveltyIndex) -> None:
    before, copied = "One night ", "three moons on her collar, and a key"
    text = f"{before}{copied} fell into the well."
    assert index.copied(text).spans == [Span(len(before), len(before) + len(copied))]
    assert index.copied(text).longest_run == 8


def test_five_words_in_a_row_are_nobodys(index: NoveltyIndex) -> None:
    assert index.copied("We saw three moons on her collar tonight.").spans == []
    assert index.copied("We saw three moons on her collar tonight.").longest_run == 0


def test_case_punctuation_and_line_breaks_do_not_hide_a_copy(index: NoveltyIndex) -> None:
    text = "NOTHING is the\n\n“hardest” door --\tof   ALL"
    assert index.copied(text).spans == [Span(0, len(text))]
    assert index.copied("the tinker’s cat had three moons").spans == [Span(0, 32)]


def test_no_run_crosses_from_one_book_to_the_next() -> None:
    index = NoveltyIndex.build(["one two three four", "five six seven eight"])
    assert index.copied("one two three four five six seven eight").spans == []


def test_runs_that_overlap_become_one_span_but_not_one_run() -> None:
    index = NoveltyIndex.build(["a b c d e f", "d e f g h i"])
    assert index.copied("a b c d e f g h i").spans == [Span(0, 17)]
    assert index.copied("a b c d e f g h i").longest_run == 6


def test_the_share_counts_words(index: NoveltyIndex) -> None:
    assert index.copied("a key that opened nothing she said zig zag zog").share == pytest.approx(0.7)
    assert index.copied(BOOK).share == 1
    assert index.copied("").share == 0


def test_false_positives_come_at_the_stated_rate() -> None:
    index = NoveltyIndex.build([words(20_000, seed=1)], false_positive_rate=0.01)
    assert index.false_positive_rate == pytest.approx(0.01, rel=0.1)
    foreign = words(100_000, seed=2)
    found = sum(span.end > span.start for span in index.copied(foreign).spans)
    assert found / 100_000 == pytest.approx(0.01, rel=0.2)


def test_the_size_follows_the_books(index: NoveltyIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    assert (tmp_path / FILE_NAME).stat().st_size == pytest.approx(20_020 * 19.2 / 8, rel=0.02)


def test_large_books_are_sampled_to_fit_and_long_copies_still_found() -> None:
    books = words(40_000, seed=3)
    index = NoveltyIndex.build([books], max_bytes=20_000)
    assert index.sampling_bits == 3
    assert index.ngrams == pytest.approx(40_000 / 8, rel=0.1)
    assert index.false_positive_rate < 2e-4
    copied = books[30_000:32_000]
    share = index.copied(words(300, seed=4) + " " + copied + " " + words(300, seed=5)).share
    assert share == pytest.approx(0.36, abs=0.05)


def test_a_block_border_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = NoveltyIndex.build([BOOK])
    monkeypatch.setattr("core.novelty._BLOCK_WORDS", 7)
    assert NoveltyIndex.build([BOOK]).ngrams == whole.ngrams
    assert NoveltyIndex.build([BOOK]).copied(BOOK).longest_run == whole.copied(BOOK).longest_run == 33


@given(text=st.text(max_size=200))
@settings(deadline=None)
def test_spans_lie_in_order_within_any_text(text: str) -> None:
    index = NoveltyIndex.build([text])
    spans = index.copied(text).spans
    edges = [edge for span in spans for edge in (span.start, span.end)]
    assert edges == sorted(set(edges))
    assert all(0 <= edge <= len(text) for edge in edges)


def test_saved_and_loaded_it_answers_the_same(index: NoveltyIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    loaded = NoveltyIndex.load(tmp_path)
    assert loaded is not None
    text = words(50, seed=6) + " " + BOOK[:60]
    assert loaded.copied(text).spans == index.copied(text).spans
    assert loaded.false_positive_rate == index.false_positive_rate


def test_a_checkpoint_without_an_index_has_none(tmp_path: Path) -> None:
    assert NoveltyIndex.load(tmp_path) is None


@pytest.mark.parametrize("damage", [b"", b"not a filter at all", "half"])
def test_a_damaged_file_is_named(index: NoveltyIndex, tmp_path: Path, damage: bytes | str) -> None:
    index.save(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:2000] if isinstance(damage, str) else damage)
    with pytest.raises(CheckpointError, match=f"{FILE_NAME}: expected a novelty index, got a damaged file"):
        NoveltyIndex.load(tmp_path)


def test_books_of_no_words_give_an_index_that_finds_nothing() -> None:
    assert NoveltyIndex.build(["", "..."]).copied(BOOK).spans == []


def test_a_checkpoint_carries_its_index(tmp_path: Path, index: NoveltyIndex) -> None:
    path = make_tiny_checkpoint(tmp_path / "tiny", steps=1)
    plain = load_checkpoint(path)
    assert plain.novelty is None
    save_checkpoint(
        path, model=plain.model, tokenizer=plain.tokenizer, config=plain.config, card="# tiny", novelty=index
    )
    loaded = load_checkpoint(path).novelty
    assert loaded is not None
    assert loaded.copied(BOOK).spans == [Span(0, len(BOOK) - 1)]
