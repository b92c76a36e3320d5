"""What new weights know of the training text."""

import numpy as np
import pytest
import torch

from core.models import build_model
from tests.tiny import TEXT
from trainer.corpus import read_documents
from trainer.initialise import company, initialise
from trainer.prepare import Data, open_data, prepare
from trainer.split import Split


def test_pieces_in_the_same_company_are_alike() -> None:
    rng = np.random.default_rng(1)
    topics = [np.arange(2, 20), np.arange(20, 40)]  # a passage keeps to the pieces of one
    ids = np.concatenate([rng.choice(topics[rng.integers(2)], 50) for _ in range(500)]).astype(np.uint32)
    counts = np.bincount(ids, minlength=400) + 1.0
    torch.manual_seed(1)
    most_frequent = np.argsort(-counts, kind="stable")
    vectors = company([ids], most_frequent, 400, 8).nan_to_num()
    vectors = torch.nn.functional.normalize(vectors)[np.argsort(most_frequent)]
    likeness = vectors @ vectors.T
    assert likeness[2:20, 2:20].mean() > 0.8
    assert likeness[20:40, 20:40].mean() > 0.8
    assert likeness[2:20, 20:40].mean() < 0.5


def test_the_number_of_threads_does_not_matter() -> None:
    ids = np.random.default_rng(1).zipf(1.3, 20_000).clip(max=600).astype(np.uint32)
    found, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            torch.manual_seed(1)
            found.append(company([ids], np.argsort(-np.bincount(ids, minlength=601)), 601, 32))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("initialise")
    (folder / "book.txt").write_text(TEXT)
    books = read_documents(folder / "book.txt")
    prepare(folder / "data", Split(train=books, valid=books, test=[]), [], vocab_size=400, kind="unigram")
    return open_data(folder / "data")


@pytest.mark.parametrize("architecture", ["awd_lstm", "lstm", "mogrifier", "transformer"])
def test_each_architecture_begins_as_it_was_asked_to(architecture: str, data: Data) -> None:
    sizes = {"vocab_size": data.tokenizer.vocab_size, "document_id": data.tokenizer.document_id}
    begun = {}
    for kind in ("company", "frequencies", "random"):
        torch.manual_seed(1)
        begun[kind] = build_model(architecture, sizes | {"embedding_size": 16, "hidden_size": 16, "layers": 1})
        initialise(begun[kind], data, kind)
    embeddings = {kind: model.embedding_weight.detach() for kind, model in begun.items()}
    assert torch.equal(embeddings["frequencies"], embeddings["random"])
    assert not torch.allclose(embeddings["company"], embeddings["random"], atol=1e-2)
    assert float(embeddings["company"].std()) == pytest.approx(float(embeddings["random"].std()), rel=0.1)
    biases = {kind: model.output_bias.detach() for kind, model in begun.items()}
    assert not biases["random"].any()
    assert float(biases["frequencies"].exp().sum()) == pytest.approx(1, abs=1e-3)
    assert torch.equal(biases["company"], biases["frequencies"])


def test_fewer_pieces_than_dimensions_begin_at_random(data: Data) -> None:
    sizes = {"vocab_size": data.tokenizer.vocab_size, "document_id": data.tokenizer.document_id}
    model = build_model("awd_lstm", sizes | {"embedding_size": 512, "hidden_size": 16, "layers": 1})
    before = model.embedding_weight.detach().clone()
    initialise(model, data, "company")
    assert torch.equal(model.embedding_weight, before)
    assert model.output_bias.any()
