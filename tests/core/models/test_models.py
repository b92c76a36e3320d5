"""What every architecture promises, and what sets them apart."""

from typing import Any

import pytest
import torch

from core.errors import CheckpointError
from core.models import ARCHITECTURES, LanguageModel, build_model, detach_state

DOCUMENT = 1
SIZES = {"vocab_size": 50, "document_id": DOCUMENT, "embedding_size": 12, "hidden_size": 16, "layers": 2}


@pytest.fixture(params=sorted(ARCHITECTURES))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return build_model(request.param, SIZES).eval()


def test_a_model_is_a_language_model(model: Any) -> None:
    assert isinstance(model, LanguageModel)


def test_logits_and_state_have_the_promised_shapes(model: Any) -> None:
    logits, state = model(torch.randint(2, 50, (5, 3)), model.init_state(3))
    assert logits.shape == (5, 3, 50)
    assert [tensor.shape for tensor in state] == [tensor.shape for tensor in model.init_state(3)]
    assert all(tensor.shape[1] == 3 for tensor in state)


def test_a_text_read_in_two_windows_is_the_text_read_in_one(model: Any) -> None:
    ids = torch.randint(2, 50, (9, 2))
    whole, whole_state = model(ids, model.init_state(2))
    first, state = model(ids[:4], model.init_state(2))
    second, state = model(ids[4:], detach_state(state))
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(state, whole_state)


def test_a_document_id_starts_a_stream_afresh_and_no_other(model: Any) -> None:
    ids = torch.randint(2, 50, (6, 2))
    ids[3, 0] = DOCUMENT
    logits, _ = model(ids, model.init_state(2))
    fresh, _ = model(ids[3:, :1], model.init_state(1))
    alone, _ = model(ids[:, 1:], model.init_state(1))
    torch.testing.assert_close(logits[3:, :1], fresh)
    torch.testing.assert_close(logits[:, 1:], alone)


def test_hidden_and_the_output_layer_give_the_logits(model: Any) -> None:
    ids = torch.randint(2, 50, (4, 2))
    hidden, _ = model.hidden(ids, model.init_state(2))
    logits, _ = model(ids, model.init_state(2))
    torch.testing.assert_close(hidden.output @ model.output_weight.t() + model.output_bias, logits)


def test_recurrent_weights_run_by_hand_give_the_logits(model: Any) -> None:
    weights = model.recurrent_weights()
    ids = torch.tensor([7, 8, 9])
    states = [
        (torch.zeros(layer.weight_hh.shape[1]), torch.zeros(layer.weight_hh.shape[1])) for layer in weights.layers
    ]
    for id in ids:
        x = weights.embedding[id]
        for number, layer in enumerate(weights.layers):
            hidden, cell = states[number]
            i, f, g, o = (layer.weight_ih @ x + layer.weight_hh @ hidden + layer.bias).chunk(4)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            x = o.sigmoid() * cell.tanh()
            states[number] = x, cell
    logits, _ = model(ids.unsqueeze(1), model.init_state(1))
    torch.testing.assert_close(weights.output_weight @ x + weights.output_bias, logits[-1, 0])


def test_dropout_works_in_training_only(model: Any) -> None:
    ids, state = torch.randint(2, 50, (4, 2)), model.init_state(2)
    assert torch.equal(model(ids, state)[0], model(ids, state)[0])
    model.train()
    assert not torch.equal(model(ids, state)[0], model(ids, state)[0])


def test_awd_lstm_ties_its_output_layer_to_its_embedding() -> None:
    model = build_model("awd_lstm", SIZES)
    assert model.output_weight is model.embedding
    assert model.config.widths == (16, 12)
    untied = build_model("awd_lstm", SIZES | {"tied_weights": False})
    assert untied.output_weight.shape == (50, 16)


def test_awd_lstm_drops_a_feature_for_the_whole_window() -> None:
    torch.manual_seed(0)
    model = build_model("awd_lstm", SIZES | {"output_dropout": 0.5, "weight_dropout": 0.0}).train()
    hidden, _ = model.hidden(torch.randint(2, 50, (20, 2)), model.init_state(2))
    dropped = hidden.output == 0
    assert dropped.any()
    assert torch.equal(dropped.all(dim=0), dropped.any(dim=0))


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"must be one of .*awd_lstm.*, got 'gpt'"):
        build_model("gpt", SIZES)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(CheckpointError, match="colour"):
        build_model("awd_lstm", SIZES | {"colour": "blue"})
