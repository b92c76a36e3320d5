"""What every architecture promises, and what sets them apart."""

from typing import Any

import pytest
import torch

from core.errors import CheckpointError
from core.models import ARCHITECTURES, LanguageModel, build_model, detach_state
from core.models.protocol import weight_drop

DOCUMENT = 1
SIZES = {"vocab_size": 50, "document_id": DOCUMENT, "embedding_size": 12, "hidden_size": 16, "layers": 2}

MORE = {"transformer": {"heads": 4, "memory": 16}, "mogrifier": {"rank": 4}}


@pytest.fixture(params=sorted(ARCHITECTURES))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return build_model(request.param, SIZES | MORE.get(request.param, {})).eval()


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


@pytest.mark.parametrize("model", ["awd_lstm", "lstm"], indirect=True)
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


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_sizes_that_cannot_be_are_told_in_a_line(architecture: str) -> None:
    with pytest.raises(CheckpointError, match=r"^the config of \w+ does not fit: .+$") as refused:
        build_model(architecture, SIZES | MORE.get(architecture, {}) | {"hidden_size": -5})
    assert "\n" not in str(refused.value)


def test_a_transformer_sees_as_far_as_its_memory_and_no_further() -> None:
    torch.manual_seed(0)
    model = build_model("transformer", SIZES | {"layers": 1, "heads": 4, "memory": 3}).eval()
    ids = torch.randint(2, 50, (6, 1))
    other = ids.clone()
    other[1] = 3 if ids[1] == 2 else 2
    logits, changed = (model(x, model.init_state(1))[0] for x in (ids, other))
    assert not torch.equal(logits[4], changed[4])
    assert torch.equal(logits[5], changed[5])


def test_a_transformer_needs_heads_that_divide_its_width() -> None:
    with pytest.raises(CheckpointError, match="got 12 and 8"):
        build_model("transformer", SIZES)


def test_a_mogrifier_whose_gates_stand_at_one_is_an_lstm() -> None:
    mogrifier, plain = build_model("mogrifier", SIZES).eval(), build_model("awd_lstm", SIZES).eval()
    for layer in mogrifier.layers:
        for gate in layer.gates:
            gate.maps[-1].weight.data.zero_()
    plain.load_state_dict({name: x for name, x in mogrifier.state_dict().items() if ".gates." not in name})
    ids = torch.randint(2, 50, (5, 2))
    torch.testing.assert_close(mogrifier(ids, mogrifier.init_state(2))[0], plain(ids, plain.init_state(2))[0])


def test_mogrifier_gates_follow_the_equation_of_the_paper() -> None:
    layer = build_model("mogrifier", SIZES | {"rounds": 3, "rank": 0}).layers[0]
    x, hidden = torch.randn(2, 12), torch.randn(2, 16)
    q1, r2, q3 = (gate.maps[0].weight for gate in layer.gates)
    x1 = 2 * torch.sigmoid(hidden @ q1.t()) * x
    hidden2 = 2 * torch.sigmoid(x1 @ r2.t()) * hidden
    x3 = 2 * torch.sigmoid(hidden2 @ q3.t()) * x1
    torch.testing.assert_close(layer._mogrify(x, hidden), (x3, hidden2))


def test_weight_drop_drops_the_share_asked_for_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    weight = torch.ones(301, 333, requires_grad=True)  # no multiple of four
    dropped = weight_drop(weight, 0.3, training=True)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 1 / 0.7])
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(weight.grad, dropped)
    assert weight_drop(weight, 0.3, training=False) is weight
