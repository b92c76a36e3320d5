"""Lanes read segments: every token is predicted, each segment from a fresh state, in an order that can be resumed."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.batches import Batches, Mixture, Single
from trainer.segments import Ordered, Segment, Shuffled, cut_segments, order_by_likeness

DOCUMENT, PARAGRAPH, LINE = 1, 2, 3
#               0  1  2  3  4  5  6  7  8  9 10 11
IDS = np.array([1, 5, 6, 2, 7, 8, 2, 9, 1, 5, 6, 1], np.uint32)


def _cut(length: int, ids: NDArray[np.uint32] = IDS) -> list[Segment]:
    return cut_segments(ids, document_id=DOCUMENT, paragraph_id=PARAGRAPH, line_id=LINE, length=length)


def _batches(*, lanes: int = 2, seed: int = 0, segments: list[Segment] | None = None, aligned: bool = False) -> Batches:
    source = Single(Shuffled(segments or _cut(2), np.random.default_rng(seed)))
    return Batches({"target": IDS}, source, lanes=lanes, document_id=DOCUMENT, aligned=aligned)


def test_segments_begin_at_paragraphs_and_close_their_book() -> None:
    assert _cut(2) == [
        Segment(start=1, end=4),  # 5 6 PARAGRAPH
        Segment(start=4, end=7),  # 7 8 PARAGRAPH
        Segment(start=7, end=9),  # 9 DOCUMENT
        Segment(start=9, end=12),  # 5 6 DOCUMENT
    ]


def test_long_segments_are_whole_books() -> None:
    assert _cut(100) == [Segment(start=1, end=9), Segment(start=9, end=12)]


def test_where_no_paragraph_is_near_a_segment_ends_with_a_line() -> None:
    ids = np.array([1, 5, 5, 5, 5, 3, 5, 5, 5, 5, 5, 5, 2, 5, 1], np.uint32)
    assert _cut(4, ids) == [Segment(start=1, end=6), Segment(start=6, end=10), Segment(start=10, end=15)]


def test_a_book_of_one_line_is_cut_anywhere() -> None:
    ids = np.array([1, *[5] * 11, 1], np.uint32)
    assert _cut(4, ids) == [Segment(start=1, end=5), Segment(start=5, end=9), Segment(start=9, end=13)]


def test_a_lane_reads_document_id_then_the_segment() -> None:
    batches = _batches(lanes=1, segments=[Segment(start=4, end=7)])
    inputs, targets = batches.window(7, 0.0)
    assert inputs[:, 0].tolist() == [1, 7, 8, 1, 7, 8, 1]
    assert targets[:, 0].tolist() == [7, 8, 2, 7, 8, 2, 7]


def test_the_end_of_a_book_is_predicted() -> None:
    inputs, targets = _batches(lanes=1, segments=[Segment(start=9, end=12)]).window(3, 0.0)
    assert inputs[:, 0].tolist() == [1, 5, 6]
    assert targets[:, 0].tolist() == [5, 6, 1]


def test_windows_cut_anywhere_give_the_same_stream() -> None:
    long, _ = _batches(lanes=1).window(12, 0.0)
    batches = _batches(lanes=1)
    short = [batches.window(steps, 0.0)[0] for steps in (5, 1, 6)]
    assert np.array_equal(long, np.concatenate([x.numpy() for x in short]))


def test_an_epoch_predicts_every_token_once() -> None:
    _, targets = _batches(lanes=1).window(len(IDS) - 1, 0.0)
    assert sorted(targets.flatten().tolist()) == sorted(IDS[1:].tolist())


def test_aligned_segments_begin_with_a_window_and_predict_every_token_once() -> None:
    batches = _batches(lanes=1, aligned=True)
    windows = [batches.window(2, 0.0) for _ in range(7)]  # segments of 3, 3, 2 and 3 tokens
    assert all((inputs[1:] != DOCUMENT).all() for inputs, _ in windows)
    targets = np.concatenate([targets.flatten() for _, targets in windows])
    assert (targets == -1).sum() == 3
    assert sorted(targets[targets >= 0].tolist()) == sorted(IDS[1:].tolist())


def test_saved_batches_go_on_where_they_were() -> None:
    first, second = _batches(seed=3), _batches(seed=4)
    first.window(7, 0.0)
    second.load_state(first.state())
    for _ in range(5):
        assert np.array_equal(first.window(7, 0.0)[1], second.window(7, 0.0)[1])


def _mixture(seed: int = 0) -> Mixture:
    rngs = [np.random.default_rng([seed, number]) for number in range(3)]
    target = Shuffled([Segment(start=1, end=2)], rngs[0])
    others = [Segment(start=number, end=number + 1) for number in range(1, 101)]
    return Mixture(target, Ordered(others, rngs[1]), 0.6, rngs[2])


def test_a_run_reads_other_books_first_and_the_corpus_last() -> None:
    def share(progress: float) -> float:
        mixture = _mixture()
        return float(np.mean([mixture.draw(progress)[0] == "target" for _ in range(400)]))

    assert share(0.59) == 0.0
    assert share(0.61) == pytest.approx(0.5, abs=0.1)
    assert share(0.99) > 0.95


def test_other_books_are_read_along_their_order() -> None:
    mixture = _mixture()
    early = [mixture.draw(0.0)[1].start for _ in range(10)]
    late = [mixture.draw(0.599)[1].start for _ in range(10)]
    assert max(early) <= 12
    assert min(late) >= 89
    assert len(set(early)) == 10  # nothing twice while something near is unread


def test_other_books_are_read_in_passes_where_there_is_time() -> None:
    others = Ordered([Segment(start=number, end=number + 1) for number in range(100)], np.random.default_rng(0))
    for draw in range(450):
        others.draw(draw / 450)
    assert set(others.used) == {4, 5}


def test_a_saved_mixture_goes_on_where_it_was() -> None:
    first, second = _mixture(), _mixture(seed=9)
    for _ in range(20):
        first.draw(0.7)
    second.load_state(first.state())
    assert [first.draw(0.8) for _ in range(50)] == [second.draw(0.8) for _ in range(50)]


def test_segments_like_the_target_come_last() -> None:
    ids = np.array([1, 3, 3, 3, 4, 4, 4, 3, 4, 1], np.uint32)
    segments = [Segment(start=1, end=4), Segment(start=4, end=7), Segment(start=7, end=9)]
    target: Any = np.array([4, 4, 4, 4, 3], np.uint32)
    ordered = order_by_likeness(ids, segments, target, vocab_size=5)
    assert [segment.start for segment in ordered] == [1, 7, 4]
