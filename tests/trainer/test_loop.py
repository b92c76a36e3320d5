"""What the loop keeps, whatever trains in it."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import CheckpointError, CorpusError
from core.models import build_model
from trainer.batches import Batches, Single
from trainer.loop import Loop, LoopSettings
from trainer.schedule import Clock
from trainer.segments import Segment, Shuffled
from trainer.validate import Validation


def _loop(folder: Path, clock: Clock, **given: Any) -> Loop:
    ids = np.arange(2, 40, dtype=np.uint32)
    segments = Shuffled([Segment(start=1, end=30)], np.random.default_rng(1))
    sizes = {"vocab_size": 40, "document_id": 1, "embedding_size": 4, "hidden_size": 4, "layers": 1}
    usual = {
        "validate": lambda most: Validation(
            tokens=most, loss=1.0, bits_per_byte=1.0, word_perplexity=None, token_perplexity=1.0
        ),
        "on_best": lambda validation: None,
        "report": lambda facts: None,
        "settings": LoopSettings(bptt=4, validations=3, learning_rate=1.0, bfloat16=False),
    } | given
    return Loop(
        build_model("awd_lstm", sizes),
        Batches({"target": ids}, Single(segments), lanes=1, document_id=1),
        usual.pop("settings"),
        clock,
        lanes=1,
        folder=folder / "resume",
        **usual,
    )


def test_a_checkpoint_that_could_not_be_written_does_not_keep_a_lesser_one_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    losses, kept = iter((3.0, 1.0, 2.0)), []

    def keep(validation: Validation) -> None:
        if validation.loss == 1.0:
            raise OSError("no space left on device")
        kept.append(validation.loss)

    def validate() -> Validation:
        return Validation(tokens=1, loss=next(losses), bits_per_byte=1.0, word_perplexity=None, token_perplexity=1.0)

    loop = _loop(tmp_path, Clock(steps=3), validate=lambda most: validate(), on_best=keep)
    assert loop.run()
    assert kept == [3.0, 2.0]
    assert "no space left on device" in caplog.text


def test_the_rate_rises_from_nothing_however_long_the_data_took_to_lay_out(tmp_path: Path) -> None:
    ticks = itertools.count()
    rates: list[float] = []
    clock = Clock(minutes=10, elapsed_s=300, now=lambda: next(ticks) / 10)
    _loop(tmp_path, clock, report=lambda facts: rates.append(facts["lr"])).run()
    assert rates[0] < 0.1
    assert max(rates) > 0.9
    assert rates[-1] < 0.01


def test_matrices_decay_and_biases_do_not(tmp_path: Path) -> None:
    def weights_after_a_step(decay: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        settings = LoopSettings(
            bptt=4, learning_rate=0.1, weight_decay=decay, schedule="constant", validations=1, bfloat16=False
        )
        loop = _loop(tmp_path / str(decay), Clock(steps=1), settings=settings)
        before = {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
        loop.run()
        return {
            name: tensor - before[name] * (tensor.ndim > 1) * -0.1 * decay
            for name, tensor in loop.model.state_dict().items()
        }

    without, decayed = weights_after_a_step(0.0), weights_after_a_step(0.5)
    for name, weight in without.items():
        torch.testing.assert_close(decayed[name], weight)


def test_a_step_that_would_end_too_late_is_not_begun(tmp_path: Path) -> None:
    now = 0.0

    def work(facts: dict[str, float]) -> None:
        nonlocal now
        now += 10  # each step takes ten of the sixty seconds

    loop = _loop(tmp_path, Clock(minutes=1, now=lambda: now), report=work)
    loop.run()
    assert (loop.step, now) == (5, 50)


def test_a_finished_run_that_goes_on_for_longer_is_validated_and_kept_again(tmp_path: Path) -> None:
    losses = itertools.count(10, -1)
    kept: list[float] = []

    def validate(most: int) -> Validation:
        loss = float(next(losses))
        return Validation(tokens=1, loss=loss, bits_per_byte=loss, word_perplexity=None, token_perplexity=loss)

    given: dict[str, Any] = {"validate": validate, "on_best": lambda validation: kept.append(validation.loss)}
    _loop(tmp_path, Clock(steps=3), **given).run()
    assert kept == [10, 9, 8]
    longer = _loop(tmp_path, Clock(steps=30), **given)
    assert longer.load()
    longer.run()
    assert kept == [10, 9, 8, 7, 6, 5]


def test_a_run_that_goes_on_for_longer_never_unlearns(tmp_path: Path) -> None:
    now, rates = 0.0, []

    def work(facts: dict[str, float]) -> None:
        nonlocal now
        now += 1
        rates.append(facts["lr"])

    clock = Clock(minutes=1, elapsed_s=30, now=lambda: now)  # half of it went into getting ready
    _loop(tmp_path, clock, report=work).run(stop_at_step=5)
    longer = _loop(tmp_path, Clock(minutes=10, now=lambda: now), report=work)
    assert longer.load()
    longer.run()
    assert len(rates) > 100
    assert min(rates) >= 0


def test_a_run_whose_time_was_over_before_its_first_step_keeps_nothing(tmp_path: Path) -> None:
    kept: list[Validation] = []
    loop = _loop(tmp_path, Clock(minutes=1, elapsed_s=90, now=lambda: 0.0), on_best=kept.append)
    with pytest.raises(CorpusError, match="getting ready took 90 s; give it more minutes"):
        loop.run()
    assert not kept


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    _loop(tmp_path, Clock(steps=3)).run()
    state = tmp_path / "resume" / "rank0.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="resume: expected the state of a run, got a damaged one"):
        _loop(tmp_path, Clock(steps=6)).load()


def test_averaging_is_decided_at_the_ends_of_epochs(tmp_path: Path) -> None:
    losses = itertools.count(1)  # ever worse

    def validate(most: int) -> Validation:
        loss = float(next(losses))
        return Validation(tokens=1, loss=loss, bits_per_byte=loss, word_perplexity=None, token_perplexity=loss)

    settings = LoopSettings(bptt=4, validations=100, averaging=True, schedule="constant", bfloat16=False)
    loop = _loop(tmp_path, Clock(steps=100), settings=settings, validate=validate)
    loop.run(stop_at_step=50)  # 200 tokens, five passes and a bit over 38
    state = json.loads((tmp_path / "resume" / "facts.json").read_text())["average"]
    assert (len(state["losses"]), state["count"]) == (5, 0)


def test_validations_of_a_run_against_the_clock_all_read_as_much_as_it_can_afford(tmp_path: Path) -> None:
    read: list[int] = []
    usual = Validation(tokens=1, loss=1.0, bits_per_byte=1.0, word_perplexity=None, token_perplexity=1.0)
    ticks = itertools.count()

    def validate(most: int) -> Validation:
        read.append(most)
        return usual

    _loop(tmp_path, Clock(minutes=1, now=lambda: next(ticks) / 10), validate=validate).run()
    _loop(tmp_path / "steps", Clock(steps=4), validate=validate).run()
    assert read == [8192] * 3 + [100_000] * 3


def test_a_finished_run_has_no_step_left_when_its_last_validation_was_a_quick_one(tmp_path: Path) -> None:
    now, durations = 0.0, itertools.chain((3.0, 3.0), itertools.repeat(0.0))

    def validate(most: int) -> Validation:
        nonlocal now
        now += next(durations)
        return Validation(tokens=1, loss=1.0, bits_per_byte=1.0, word_perplexity=None, token_perplexity=1.0)

    def work(facts: dict[str, float]) -> None:
        nonlocal now
        now += 1

    def run(minutes: float) -> int:
        loop = _loop(tmp_path, Clock(minutes=minutes, now=lambda: now), validate=validate, report=work)
        loop.load()
        assert loop.run()
        return loop.step

    steps = run(1)
    assert now < 60 * 0.95  # which the end was to take, and did not
    now = 0.0
    assert run(1) == steps
    assert run(2) > steps
