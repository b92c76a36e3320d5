"""Learning rates follow progress, and progress follows steps or the clock."""

import pytest

from trainer.schedule import Clock, Plateau, one_cycle, peak_rate


def test_one_cycle_warms_up_and_ends_at_zero() -> None:
    assert one_cycle(0.0) == 0.0
    assert one_cycle(0.01) == pytest.approx(0.5)
    assert one_cycle(0.02) == pytest.approx(1.0)
    assert one_cycle(0.51) == pytest.approx(0.5)
    assert one_cycle(1.0) == pytest.approx(0.0)


def test_a_long_run_learns_at_a_lower_rate() -> None:
    assert [peak_rate(steps) for steps in (8, 1500, 6000, 60_000, None)] == [1e-2, 1e-2, 5e-3, 5e-3, 5e-3]
    assert peak_rate(3000) == pytest.approx(7.07e-3, rel=1e-3)


def test_progress_by_steps_ignores_the_time() -> None:
    assert Clock(steps=200, elapsed_s=1e6).progress(50) == 0.25


def test_progress_by_time_goes_on_counting_after_a_resume() -> None:
    assert Clock(minutes=10, elapsed_s=285).progress(7) == pytest.approx(0.5, abs=0.01)
    assert Clock(minutes=10, elapsed_s=9999).progress(7) == 1.0
    assert Clock(minutes=10, steps=10, elapsed_s=285).progress(7) == 0.7
    assert Clock(minutes=10, steps=100, elapsed_s=285).progress(7) == pytest.approx(0.5, abs=0.01)


def test_a_run_counts_from_when_its_process_began() -> None:
    clock = Clock(minutes=1, elapsed_s=10, now=lambda: 25.0, started=20.0)
    assert clock.seconds() == 15


def test_training_ends_early_enough_for_a_long_last_measurement() -> None:
    clock = Clock(minutes=1, elapsed_s=27)
    assert clock.progress(7) == pytest.approx(27 / 57, abs=0.01)
    assert clock.progress(7, ending_s=10.0) == pytest.approx(27 / 49.4, abs=0.01)
    assert clock.progress(7, ending_s=99.0) == pytest.approx(27 / 30, abs=0.01)


def test_a_plateau_halves_the_rate_when_validation_gets_no_better() -> None:
    plateau = Plateau(factor=0.5, patience=1)
    scales = []
    for epoch, loss in enumerate((3.0, 2.0, 2.5, 2.4, 1.9, 2.0), start=1):
        plateau.observe(loss, epoch=epoch)
        scales.append(plateau.scale)
    assert scales == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]


def test_a_plateau_counts_epochs_not_validations() -> None:
    plateau = Plateau(factor=0.25)
    for epoch, loss in ((0, 9.0), (1, 3.0), (1, 3.5), (1, 3.6), (2, 2.0)):
        plateau.observe(loss, epoch=epoch)
    assert plateau.scale == 1.0
    plateau.observe(2.1, epoch=3)
    assert plateau.scale == 0.25
