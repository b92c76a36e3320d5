"""The plan grows with time and books, keeps what was asked for, and never promises more than the machine gives."""

from dataclasses import asdict

import pytest
import torch

from core.models import build_model
from trainer.plan import Plan, Wishes, make_plan, measure_flops

FLOPS = 400e9


def _plan(minutes: float, corpus_bytes: int = 6_000_000, wishes: Wishes | None = None) -> Plan:
    return make_plan(wishes or Wishes(), corpus_bytes=corpus_bytes, seconds=60 * minutes, flops=FLOPS)


def test_more_time_makes_a_larger_network() -> None:
    sizes = [_plan(minutes).hidden_size for minutes in (2, 10, 30, 120)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_short_run_makes_many_updates_rather_than_large_ones() -> None:
    short, long = _plan(2), _plan(120)
    assert short.lanes * short.bptt < long.lanes * long.bptt


@pytest.mark.parametrize("corpus_bytes", [6_000_000, 500_000_000])
def test_a_network_is_as_large_as_what_it_will_read_allows_however_many_books_there_are(corpus_bytes: int) -> None:
    for minutes in (2, 10, 30, 48):
        plan = _plan(minutes, corpus_bytes)
        config = asdict(plan) | {"document_id": 1}
        sizes = {
            name: config[name] for name in ("vocab_size", "embedding_size", "hidden_size", "layers", "document_id")
        }
        weights = sum(weight.numel() for weight in build_model("awd_lstm", sizes).parameters() if weight.dim() == 2)
        assert plan.tokens is not None
        assert 0.4 <= plan.tokens / weights < 1.6, minutes


def test_a_small_corpus_gets_a_small_vocabulary_and_much_dropout() -> None:
    small, large = _plan(30, 100_000), _plan(30, 100_000_000)
    assert small.vocab_size < large.vocab_size == 8192
    assert small.dropout > large.dropout
    assert small.lanes < large.lanes


def test_a_model_that_has_learned_before_does_not_read_a_few_books_over_and_over() -> None:
    wishes = Wishes(vocab_size=8192, embedding_size=512, hidden_size=768, layers=2)
    few, many = (
        make_plan(wishes, corpus_bytes=size, seconds=60 * 48, flops=FLOPS, has_learned=True)
        for size in (400_000, 40_000_000)
    )
    assert few.passes == 6
    assert few.steps is not None
    assert few.steps * few.lanes * few.bptt == pytest.approx(6 * 100_000, rel=0.01)
    assert few.dropout == many.dropout < _plan(48, 400_000, wishes).dropout
    assert "a part of 48 minutes" in few.describe(48)
    assert many.passes is not None
    assert many.passes < 6
    assert many.steps is not None  # for whoever gives it more time later
    assert many.steps * many.lanes * many.bptt == pytest.approx(6 * 10_000_000, rel=0.01)
    assert "a part of" not in many.describe(48)
    assert _plan(48, 400_000, wishes).steps is None


def test_a_transformer_is_planned_by_its_own_weights() -> None:
    wishes = Wishes(vocab_size=8192, embedding_size=320, hidden_size=1280, layers=4)
    plan = make_plan(wishes, architecture="transformer", corpus_bytes=6_000_000, seconds=600, flops=FLOPS)
    config = {"vocab_size": 8192, "document_id": 1, "embedding_size": 320, "hidden_size": 1280, "layers": 4}
    weights = sum(weight.numel() for weight in build_model("transformer", config).parameters() if weight.dim() == 2)
    assert plan.tokens == pytest.approx(0.85 * 600 * FLOPS / (6 * weights), rel=0.01)


def test_what_was_asked_for_is_kept() -> None:
    wishes = Wishes(vocab_size=1000, embedding_size=100, hidden_size=200, layers=3, dropout=0.11, lanes=7, bptt=35)
    plan = _plan(30, wishes=wishes)
    assert (plan.vocab_size, plan.embedding_size, plan.hidden_size, plan.layers) == (1000, 100, 200, 3)
    assert (plan.dropout, plan.lanes, plan.bptt) == (0.11, 7, 35)
    assert wishes.are_complete
    assert not Wishes(vocab_size=1000).are_complete


def test_the_expected_tokens_are_what_the_machine_can_read() -> None:
    plan = _plan(10, wishes=Wishes(vocab_size=1000, embedding_size=100, hidden_size=100, layers=1))
    weights = 1000 * 100 + 4 * 100 * (100 + 100)
    assert plan.tokens is not None
    assert plan.tokens <= 600 * FLOPS / (6 * weights)
    assert plan.passes == pytest.approx(plan.tokens / (6_000_000 / 2.7))  # of a thousand pieces


def test_the_smallest_network_is_planned_for_hardly_any_time() -> None:
    assert _plan(0.001).hidden_size == 192


@pytest.mark.parametrize("int8", [False, True])
def test_measuring_the_machine_draws_nothing_from_the_random_numbers_of_the_run(int8: bool) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert measure_flops("awd_lstm", torch.device("cpu"), bfloat16=False, int8=int8) > 1e8
    assert torch.rand(1) == expected
