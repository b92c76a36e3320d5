"""The figures, worked by hand on texts small enough for it."""

from random import Random

import pytest

from trainer.text_statistics import TrainingBooks, cut_samples, distinct_share, first_words, self_bleu, text_statistics

BOOK = "A goose may cross the road at noon, but a gander must wait for the bell to ring twice before he goes."
BOOKS = TrainingBooks([BOOK, "The moon is a lantern that nobody lit."])


def test_distinct_n_is_the_share_of_different_n_grams() -> None:
    tokens = ["the", "cat", "and", "the", "cat", "and", "the", "dog"]
    assert distinct_share(tokens, 1) == pytest.approx(4 / 8)
    assert distinct_share(tokens, 2) == pytest.approx(4 / 7)  # the-cat, cat-and, and-the, the-dog
    assert distinct_share(["one"], 2) == 1


def test_self_bleu_is_one_for_copies_and_small_for_strangers() -> None:
    text = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    assert self_bleu([text, text]) == pytest.approx(1)
    strangers = [[f"w{number}{letter}" for number in range(9)] for letter in "ab"]
    # Nothing matches: half a match in each of 9, 8, 7 and 6 n-grams.
    assert self_bleu(strangers) == pytest.approx((0.5**4 / (9 * 8 * 7 * 6)) ** 0.25)
    assert self_bleu([text]) == 0


def test_self_bleu_clips_at_the_other_texts_counts() -> None:
    # "a" stands three times in the first and twice in the second: precisions 2/3 and 2/2 of words.
    assert self_bleu([["a"] * 3, ["a"] * 2], order=1) == pytest.approx((2 / 3 + 1) / 2)


def test_copied_runs_are_counted_exactly() -> None:
    text = "At noon a gander must wait for the bell, as is well known."  # seven copied words of thirteen
    assert BOOKS.copied_share([text], 4) == pytest.approx(4 / 10)
    assert BOOKS.copied_share([text], 7) == pytest.approx(1 / 7)
    assert BOOKS.copied_share([text], 8) == 0
    assert BOOKS.longest_run(text) == 7
    assert BOOKS.longest_run("nothing of the kind stands here") == 0


def test_a_run_longer_than_any_indexed_is_measured_whole() -> None:
    assert BOOKS.longest_run(BOOK) == 22


def test_the_figures_come_together() -> None:
    texts = ["the cat sat on the mat . " * 2, "a goose may cross the road at noon"]
    figures = text_statistics(texts, BOOKS, mean_surprise=1.5)
    assert (figures.texts, figures.words, figures.longest_run, figures.mean_surprise) == (2, 20, 8, 1.5)
    # The first text's eleven 4-grams are seven different ones, the second's five are all different.
    assert figures.repeated_4grams == pytest.approx((4 / 11 + 0) / 2)
    assert figures.copied[4] == pytest.approx(5 / 14)
    assert figures.new_words == pytest.approx(8 / 20)  # cat, sat, on, mat
    assert figures.distance(figures) == 0


def test_words_that_stand_in_no_book_that_was_read_are_new() -> None:
    books = TrainingBooks(["The cat sat."], others=["A goose flew over."])
    assert books.new_share(["THE GOOSE SAT", "the glark flew"]) == pytest.approx(1 / 6)
    made_up, known = (text_statistics([f"the {word} sat", f"a {word} flew"], books) for word in ("glark", "goose"))
    assert made_up.distance(known) > 1


def test_repetitive_text_is_farther_from_human_text() -> None:
    random = Random(1)
    human = text_statistics([" ".join(random.choices("abcdefghijklmnopqrst", k=80)) for _ in range(9)], BOOKS)
    close = text_statistics([" ".join(random.choices("abcdefghijklmnopqrst", k=80)) for _ in range(9)], BOOKS)
    dull = text_statistics([" ".join(random.choices("abc", k=80)) for _ in range(9)], BOOKS)
    assert close.distance(human) < 0.3 < dull.distance(human)


def test_human_samples_have_equal_length_and_begin_with_paragraphs() -> None:
    text = "\n\n".join(f"Paragraph {number} has these six words." for number in range(10))
    samples = cut_samples([text], words=12, count=3)
    assert [len(sample.split()) for sample in samples] == [12, 12, 12]
    assert [sample.split()[1] for sample in samples] == ["0", "2", "6"]


def test_first_words_keeps_line_breaks() -> None:
    assert first_words("one two\n\nthree  four", 3) == "one two\n\nthree"
    assert first_words("one", 3) == "one"
    assert first_words(" ", 3) == ""


def test_short_copies_that_overlap_are_no_long_one() -> None:
    books = TrainingBooks(["a b c d e", "b c d e f"])
    assert books.longest_run("a b c d e f") == 5
