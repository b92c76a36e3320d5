"""What the loop keeps, whatever trains in it."""

from pathlib import Path

import numpy as np
import pytest

from core.models import build_model
from trainer.batches import Batches, Single
from trainer.loop import Loop, LoopSettings
from trainer.schedule import Clock
from trainer.segments import Segment, Shuffled
from trainer.validate import Validation


def test_a_checkpoint_that_could_not_be_written_does_not_keep_a_lesser_one_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    losses, kept = iter((3.0, 1.0, 2.0)), []

    def keep(validation: Validation) -> None:
        if validation.loss == 1.0:
            raise OSError("no space left on device")
        kept.append(validation.loss)

    def validate() -> Validation:
        return Validation(loss=next(losses), bits_per_byte=1.0, word_perplexity=None, token_perplexity=1.0)

    ids = np.arange(2, 40, dtype=np.uint32)
    batches = Batches(
        {"target": ids}, Single(Shuffled([Segment(start=1, end=30)], np.random.default_rng(1))), lanes=1, document_id=1
    )
    loop = Loop(
        build_model(
            "awd_lstm", {"vocab_size": 40, "document_id": 1, "embedding_size": 4, "hidden_size": 4, "layers": 1}
        ),
        batches,
        LoopSettings(bptt=4, validations=3, bfloat16=False),
        Clock(steps=3),
        lanes=1,
        folder=tmp_path / "resume",
        validate=validate,
        on_best=keep,
        report=lambda facts: None,
    )
    assert loop.run()
    assert kept == [3.0, 2.0]
    assert "no space left on device" in caplog.text
