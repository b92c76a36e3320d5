"""Samples are what the plain loop would write, and surprise is what the model says of them."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from core.checkpoint import Checkpoint, load_checkpoint
from core.errors import CorpusError
from core.models import build_model
from core.products import Precision
from core.requests import SamplingDefaults, sampling_params
from core.sampling import BLOCK, Draw, Sampler, uniform
from core.tokenizer import Tokenizer
from tests.tiny import TEXT
from trainer.choose_sampling import choose, table
from trainer.samples import Passage, cut_passages, mean_surprise, read_samples, write_samples
from trainer.text_statistics import TrainingBooks

PARAMS = SamplingDefaults(temperature=0.9, max_tokens=30)


@pytest.fixture(scope="module")
def tiny(rough_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(rough_checkpoint)


@torch.no_grad()
def write_alone(tiny: Checkpoint, prompt: str, seed: int) -> str:
    """The plain loop, over the whole text at every step."""
    ids = [tiny.tokenizer.document_id, *tiny.tokenizer.encode(prompt)]
    start = len(ids)
    size = -(-tiny.tokenizer.vocab_size // BLOCK) * BLOCK
    for _ in range(30):
        logits, _ = tiny.model(torch.tensor(ids)[:, None], tiny.model.init_state(1))
        row = functional.pad(logits[-1], (0, size - logits.shape[2]), value=-torch.inf)
        drawn = Sampler(size).draw(row, [Draw(sampling_params(PARAMS, seed=seed), uniform(seed, len(ids)))])
        if drawn == [tiny.tokenizer.document_id]:
            break
        ids += drawn
    return tiny.tokenizer.decode(ids[start:])


def test_prompts_side_by_side_are_continued_as_alone(tiny: Checkpoint) -> None:
    prompts = ["", "Once upon a time there was a", "The fox"]
    samples = write_samples(tiny.model, tiny.tokenizer, prompts, [sampling_params(PARAMS, seed=n) for n in range(3)])
    assert [sample.text for sample in samples] == [write_alone(tiny, text, n) for n, text in enumerate(prompts)]


def test_the_decoder_writes_the_same_in_float32(tiny: Checkpoint) -> None:
    prompts = ["", "Once upon a time there was a", "The fox"]
    params = [sampling_params(PARAMS, seed=n) for n in range(3)]
    expected = write_samples(tiny.model, tiny.tokenizer, prompts, params)
    decoded = write_samples(tiny.model, tiny.tokenizer, prompts, params, precision="float32")
    assert [sample.text for sample in decoded] == [sample.text for sample in expected]
    assert [sample.nats for sample in decoded] == pytest.approx([sample.nats for sample in expected], rel=1e-3)


def test_surprise_is_counted_over_the_continuation_alone(tiny: Checkpoint) -> None:
    prompt, end = "They sang until", " the stars were out."
    [sample] = read_samples(tiny.model, tiny.tokenizer, [Passage(prompt=prompt, continuation=end)])
    both = torch.tensor([tiny.tokenizer.document_id, *tiny.tokenizer.encode(prompt), *tiny.tokenizer.encode(end)])
    with torch.no_grad():
        logits, _ = tiny.model(both[:-1, None], tiny.model.init_state(1))
    losses = functional.cross_entropy(logits[:, 0], both[1:], reduction="none")
    nats = float(losses[len(tiny.tokenizer.encode(prompt)) :].sum())
    assert sample.nats == pytest.approx(nats, rel=1e-4)
    assert mean_surprise([sample]) == pytest.approx(nats / math.log(2) / len(end), rel=1e-4)


def test_a_sample_is_as_surprising_written_as_read(tiny: Checkpoint) -> None:
    prompt = "The donkey"
    [written] = write_samples(tiny.model, tiny.tokenizer, [prompt], [sampling_params(PARAMS, seed=5)])
    [read] = read_samples(tiny.model, tiny.tokenizer, [Passage(prompt=prompt, continuation=written.text)])
    assert read.nats == pytest.approx(written.nats, rel=0.1)  # the same text may be cut into other pieces


def test_passages_are_prompt_and_continuation(tiny: Checkpoint) -> None:
    passages = cut_passages([TEXT], prompt_words=10, words=20, count=3)
    assert len(passages) == 3
    assert all(len(passage.prompt.split()) == 10 for passage in passages)
    assert all(len(passage.continuation.split()) == 20 for passage in passages)
    assert all(passage.prompt + passage.continuation in TEXT for passage in passages)


def test_text_that_is_too_short_for_a_passage_is_refused() -> None:
    with pytest.raises(CorpusError, match="expected held-out text for at least 2 passages of 30 words, got 0"):
        cut_passages(["One two three."], prompt_words=10, words=20, count=3)


def test_the_setting_closest_to_human_text_comes_first(tiny: Checkpoint) -> None:
    passages = cut_passages([TEXT] * 2, prompt_words=5, words=30, count=8)
    grid: list[dict[str, float]] = [{"temperature": 0.0}, {"temperature": 0.9}, {"temperature": 2.0}]
    human, choices = choose(tiny, passages, TrainingBooks([TEXT]), words=30, grid=grid)
    assert human.copied[4] == 1
    assert [choice.distance for choice in choices] == sorted(choice.distance for choice in choices)
    assert choices[0].statistics.distance(human) == choices[0].distance
    by_temperature = {choice.settings["temperature"]: choice.statistics for choice in choices}
    assert by_temperature[0.0].repeated_4grams > by_temperature[2.0].repeated_4grams
    lines = table(human, choices).splitlines()
    assert len(lines) == 2 + 3 + 1
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize("precision", [None, "int8"])
def test_what_stands_for_unknown_words_is_never_written(precision: Precision | None) -> None:
    tokenizer = Tokenizer.train([TEXT], vocab_size=150, kind="word")
    sizes = {"vocab_size": tokenizer.vocab_size, "document_id": tokenizer.document_id, "embedding_size": 8}
    model = build_model("lstm", sizes | {"hidden_size": 8, "layers": 1, "dropout": 0.0})
    model.output_bias.data[tokenizer.unknown_id] = 20.0
    [sample] = write_samples(model, tokenizer, ["the dragon"], [sampling_params(PARAMS, seed=1)], precision=precision)
    assert sample.text
    assert "<unk>" not in sample.text
