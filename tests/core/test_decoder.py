"""The decoder computes what the model computes, and a row never depends on its neighbours."""

import dataclasses
import random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.checkpoint import Checkpoint
from core.decoder import Decoder
from core.models import build_model
from core.products import Precision

PRECISIONS: tuple[Precision, ...] = ("int8", "bfloat16", "float32")
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.02}  # of the logits' own size


@pytest.fixture(scope="session")
def mogrifier(tiny: Checkpoint) -> Checkpoint:
    """A Mogrifier nobody trained, with embeddings of all sizes: its inputs are not between -1 and 1."""
    torch.manual_seed(3)
    sizes = {"vocab_size": tiny.tokenizer.vocab_size, "document_id": tiny.tokenizer.document_id}
    sizes |= {"embedding_size": 40, "hidden_size": 48, "layers": 2, "rounds": 5, "rank": 12}
    model = build_model("mogrifier", sizes).eval()
    with torch.no_grad():
        model.embedding.mul_(torch.rand(len(model.embedding), 1) * 30)
    return dataclasses.replace(tiny, model=model)


@pytest.fixture(params=["tiny", "mogrifier"])
def checkpoint(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def decoder_of(checkpoint: Checkpoint, precision: Precision, **sizes: int) -> Decoder:
    return Decoder(checkpoint.model.recurrent_weights(), precision=precision, **sizes)


def story_ids(checkpoint: Checkpoint) -> list[int]:
    return [checkpoint.tokenizer.document_id, *checkpoint.tokenizer.encode("Once upon a time there was a donkey")]


def run_alone(decoder: Decoder, ids: list[int]) -> list[torch.Tensor]:
    decoder.reset(0)
    return [decoder.step([id], [0])[0].clone() for id in ids]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_are_those_of_the_model(checkpoint: Checkpoint, precision: Precision) -> None:
    ids = story_ids(checkpoint)
    with torch.inference_mode():
        expected = checkpoint.model(torch.tensor(ids).unsqueeze(1), checkpoint.model.init_state(1))[0][:, 0]  # (T, V)
    decoder = decoder_of(checkpoint, precision)
    got = torch.stack(run_alone(decoder, ids))[:, : decoder.vocab_size]
    assert (got - expected).norm() < TOLERANCE[precision] * expected.norm()


@pytest.mark.parametrize("architecture", ["lstm", "awd_lstm", "mogrifier"])
@pytest.mark.parametrize("layers", [1, 3])
def test_every_lstm_architecture_can_be_run(architecture: str, layers: int) -> None:
    torch.manual_seed(2)
    sizes = {"vocab_size": 50, "document_id": 1, "embedding_size": 20, "hidden_size": 24, "layers": layers}
    model = build_model(architecture, sizes).eval()
    ids = [1, 7, 30, 4]
    with torch.inference_mode():
        expected = model(torch.tensor(ids).unsqueeze(1), model.init_state(1))[0][:, 0]
    got = torch.stack(run_alone(Decoder(model.recurrent_weights(), precision="float32"), ids))[:, :50]
    torch.testing.assert_close(got, expected)


def test_padding_of_the_vocabulary_can_never_be_drawn(tiny: Checkpoint) -> None:
    decoder = decoder_of(tiny, "int8")
    assert decoder.padded_vocab_size > decoder.vocab_size
    assert run_alone(decoder, [1])[0][decoder.vocab_size :].eq(-torch.inf).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_row_has_the_same_logits_alone_and_in_any_batch(
    checkpoint: Checkpoint, precision: Precision, data: st.DataObject
) -> None:
    """Bit for bit, in any slot and row, whoever joins or leaves between two steps."""
    ids = story_ids(checkpoint)
    alone = run_alone(decoder_of(checkpoint, precision), ids)
    batched = decoder_of(checkpoint, precision, slots=40, max_rows=32)
    shuffle = random.Random(data.draw(st.integers(0, 2**32)))
    slot = shuffle.randrange(40)
    others = [other for other in range(40) if other != slot]
    for id, expected in zip(ids, alone, strict=True):
        company = shuffle.sample(others, data.draw(st.integers(0, 31)))
        row = shuffle.randint(0, len(company))
        slots = [*company[:row], slot, *company[row:]]
        feed = [shuffle.randrange(checkpoint.tokenizer.vocab_size) for _ in slots]
        feed[row] = id
        assert torch.equal(batched.step(feed, slots)[row], expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_state_can_be_read_and_written_into_another_slot(checkpoint: Checkpoint, precision: Precision) -> None:
    ids = story_ids(checkpoint)
    expected = run_alone(decoder_of(checkpoint, precision), ids)[-1]
    decoder = decoder_of(checkpoint, precision, slots=3, max_rows=2)
    for id in ids[:-1]:
        decoder.advance([id, 5], [2, 0])
    state = decoder.read_state(2)
    assert state.shape == (decoder.state_size,)
    decoder.write_state(1, state)
    assert torch.equal(decoder.step([ids[-1]], [1])[0], expected)


def test_reset_forgets_a_slot_and_only_that(tiny: Checkpoint) -> None:
    decoder = decoder_of(tiny, "int8", slots=2, max_rows=2)
    decoder.advance([4, 5], [0, 1])
    kept = decoder.read_state(1)
    decoder.reset(0)
    assert not decoder.read_state(0).any()
    assert (decoder.read_state(1) == kept).all()


def test_a_broken_row_leaves_its_neighbours_alone(tiny: Checkpoint) -> None:
    expected = run_alone(decoder_of(tiny, "int8"), [1, 7])[-1]
    decoder = decoder_of(tiny, "int8", slots=2, max_rows=2)
    decoder.write_state(0, decoder.read_state(0) * float("nan"))
    decoder.step([1, 1], [0, 1])
    logits = decoder.step([7, 7], [0, 1])
    assert torch.equal(logits[1], expected)
    assert logits[0].isnan().any()


def test_int8_logits_do_not_depend_on_the_number_of_threads(checkpoint: Checkpoint) -> None:
    ids, before, found = story_ids(checkpoint), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            decoder = decoder_of(checkpoint, "int8", threads=threads, slots=8, max_rows=8)
            for id in ids:
                logits = decoder.step([id] * 8, list(range(8)))[3, : decoder.vocab_size].clone()
            found.append(logits)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
