"""Texts written by a model for measuring it: many prompts side by side.

Draws exactly as the product does (core.sampling), without the engine's queue: from the model as it was trained,
whatever its architecture, or from the decoder as it is run, at any of its precisions.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from core.decoder import Decoder
from core.errors import CorpusError
from core.products import Precision
from core.requests import SamplingParams
from core.sampling import BLOCK, PENALTY_WINDOW, Draw, Sampler, round_up, uniform
from core.tokenizer import Tokenizer

from .text_statistics import cut_samples, first_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """The start of a held-out text, and how its author went on."""

    prompt: str
    continuation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A continuation and the model's total surprise at it, unfiltered and at temperature 1."""

    text: str
    nats: float


def cut_passages(texts: Iterable[str], *, prompt_words: int, words: int, count: int) -> list[Passage]:
    """Cut held-out texts into prompts and continuations. Raises CorpusError where they are too short for two."""
    passages = []
    for sample in cut_samples(texts, prompt_words + words, count):
        prompt = first_words(sample, prompt_words)
        passages.append(Passage(prompt=prompt, continuation=sample[len(prompt) :]))
    if len(passages) < 2:  # no one knows how alike one is
        size = prompt_words + words
        raise CorpusError(f"expected held-out text for at least 2 passages of {size} words, got {len(passages)}")
    return passages


@torch.no_grad()
def write_samples(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    params: Sequence[SamplingParams],
    *,
    precision: Precision | None = None,
) -> list[Sample]:
    """Continue each prompt with its own parameters, `max_tokens` of the first at most, ended where a story ends.

    With a `precision` the decoder runs the model at it; without, the model itself does.
    """
    model.eval()
    ids = [[tokenizer.document_id, *tokenizer.encode(prompt)] for prompt in prompts]
    starts = [len(row) for row in ids]
    rows = [row[:-1] for row in ids]
    banned = tokenizer.unwritable_ids
    steps: _Steps = (
        _ModelSteps(model, rows, banned) if precision is None else _DecoderSteps(model, rows, precision, banned)
    )
    last = [row[-1] for row in ids]
    sampler = Sampler(steps.padded_vocab_size)
    nats = torch.zeros(len(ids), dtype=torch.float64)
    is_open = [True] * len(ids)
    for _ in range(params[0].max_tokens):
        logits = steps.step(last)  # (B, padded V)
        table = logits.log_softmax(dim=1)
        draws = [
            Draw(settings, uniform(settings.seed, len(row)), row[-PENALTY_WINDOW:])
            for settings, row in zip(params, ids, strict=True)
        ]
        last = sampler.draw(logits, draws)
        for row, id in enumerate(last):
            is_open[row] = is_open[row] and id != tokenizer.document_id
            if is_open[row]:
                nats[row] -= float(table[row, id])
                ids[row].append(id)
        if not any(is_open):
            break
    return [
        Sample(text=tokenizer.decode(row[start:]), nats=float(total))
        for row, start, total in zip(ids, starts, nats, strict=True)
    ]


@torch.no_grad()
def read_samples(model: Any, tokenizer: Tokenizer, passages: Sequence[Passage]) -> list[Sample]:
    """Return the authors' continuations with the model's surprise at them after the same prompts."""
    model.eval()
    samples = []
    for passage in passages:
        prompt, continuation = tokenizer.encode(passage.prompt), tokenizer.encode(passage.continuation)
        ids = torch.tensor([tokenizer.document_id, *prompt, *continuation], device=model.output_bias.device)
        hidden, _ = model.hidden(ids[:-1, None], model.init_state(1))
        output = hidden.output[len(prompt) :, 0]
        logits = functional.linear(output, model.output_weight, model.output_bias).float()
        nats = functional.cross_entropy(logits, ids[len(prompt) + 1 :], reduction="sum")
        samples.append(Sample(text=passage.continuation, nats=float(nats)))
    return samples


def mean_surprise(samples: Iterable[Sample]) -> float:
    """Return the bits a byte over all samples together."""
    collected = list(samples)
    total_bytes = sum(len(sample.text.encode()) for sample in collected)
    return sum(sample.nats for sample in collected) / math.log(2) / max(1, total_bytes)


class _Steps(Protocol):
    """A model that has read its prompts but for their last id, and goes on id by id."""

    padded_vocab_size: int

    def step(self, ids: Sequence[int]) -> Tensor:
        """Feed one id to each row; return the logits (B, padded V), -inf where there is no piece."""
        ...


class _ModelSteps:
    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], unwritable_ids: Sequence[int]) -> None:
        self._model = model
        self._unwritable_ids = list(unwritable_ids)
        self._device = model.output_bias.device
        self.padded_vocab_size = round_up(len(model.output_bias), BLOCK)
        states = []
        for ids in prompts:
            state = model.init_state(1)
            if ids:
                _, state = model.hidden(torch.tensor(ids, device=self._device)[:, None], state)
            states.append(state)
        self._state = tuple(torch.cat(tensors, dim=1) for tensors in zip(*states, strict=True))

    def step(self, ids: Sequence[int]) -> Tensor:
        """See _Steps."""
        hidden, self._state = self._model.hidden(torch.tensor([ids], device=self._device), self._state)
        logits = functional.linear(hidden.output[0], self._model.output_weight, self._model.output_bias).float().cpu()
        logits[:, self._unwritable_ids] = -torch.inf
        return functional.pad(logits, (0, self.padded_vocab_size - logits.shape[1]), value=-torch.inf)


class _DecoderSteps:
    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], precision: Precision, unwritable_ids: Sequence[int]
    ) -> None:
        count = len(prompts)
        self._decoder = Decoder(
            model.recurrent_weights(),
            precision=precision,
            slots=count,
            max_rows=count,
            unwritable_ids=unwritable_ids,
        )
        self.padded_vocab_size = self._decoder.padded_vocab_size
        for position in range(max(map(len, prompts))):
            slots = [slot for slot, ids in enumerate(prompts) if position < len(ids)]
            self._decoder.advance([prompts[slot][position] for slot in slots], slots)
        self._slots = list(range(count))

    def step(self, ids: Sequence[int]) -> Tensor:
        """See _Steps."""
        return self._decoder.step(ids, self._slots).clone()  # the sampler changes them
