"""Choosing the next token: the filters, the seeded draw, and the plain one-stream loop that is the engine's oracle.

The neural cache comes first (cache_strength), then the filters, in this order: repetition_penalty, temperature,
top_k, top_p, min_p. top_k keeps the tokens that fewer than k others beat; top_p the tokens whose likelier others hold
less than top_p of what top_k left; min_p those at least min_p times as likely as the likeliest. So tokens of equal
probability stay or go together.

One uniform number per token decides, a function of (seed, position) alone. It is first drawn over the whole
vocabulary by inverse CDF; asking whether that one token survives the filters costs one pass, where sorting 8,192 costs
ten. If it does not, the place of the number inside the token's own interval is a new uniform number, independent of
which token it was, and decides among the survivors. The outcome is distributed exactly as filtering first would be.

Rows never touch each other, and every sum runs in an order that does not depend on the number of rows: a row's token
is the same, bit for bit, alone and in a batch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .neural_cache import NeuralCache
from .requests import SamplingParams

BLOCK = 128  # the vocabulary is summed in blocks of this many tokens; a decoder pads its logits to whole blocks
NOT_FINITE = -1  # drawn from a row whose logits hold NaN or infinity
PENALTY_WINDOW = 256  # repetition_penalty looks back this many tokens, prompt and text alike
GREEDY_BELOW = 1e-5  # a temperature under this is greedy: dividing by it would overflow

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BELOW_ONE = 1 - 2**-52  # times any float is less than that float; with 2**-53 rounding may give it back


def uniforms(seed: int, position: int, count: int) -> list[float]:
    """Numbers in [0, 1) for `count` positions from `position` on: SplitMix64 as a counter-based generator.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014). The seed is mixed first, so that
    neighbouring seeds share nothing.
    """
    start = _mix(np.array([seed], dtype=np.uint64) + _GOLDEN)
    counters = np.arange(position, position + count, dtype=np.uint64)
    return ((_mix(start + counters * _GOLDEN) >> np.uint64(11)) * 2.0**-53).tolist()  # type: ignore[no-any-return]


def uniform(seed: int, position: int) -> float:
    """The number that decides the token at `position`, counted from the start of the whole story."""
    return uniforms(seed, position, 1)[0]


@dataclass(slots=True)
class Draw:
    """What one row needs: its settings, its uniform number, and the tokens that repetition_penalty looks back on."""

    params: SamplingParams
    uniform: float
    recent: Sequence[int] = ()


class Sampler:
    """Draws one token for each row of a batch. Holds the buffers, so that a step allocates nothing large."""

    def __init__(self, vocab_size: int, max_rows: int) -> None:
        assert vocab_size % BLOCK == 0, vocab_size
        self._buffers = [torch.empty(max_rows, vocab_size) for _ in range(3)]
        self._sums = torch.empty(max_rows, vocab_size // BLOCK)
        self._views: dict[int, _Tables] = {}

    def draw(self, logits: Tensor, draws: Sequence[Draw]) -> list[int]:
        """Return a token id per row, or NOT_FINITE. logits (B, V) float32 are changed in place."""
        rows = logits.numpy()
        for number, draw in enumerate(draws):
            if draw.params.repetition_penalty != 1.0:
                _penalise(rows[number], draw.recent, draw.params.repetition_penalty)
        greedy = [draw.params.temperature < GREEDY_BELOW for draw in draws]
        if all(greedy):
            return [_likeliest(row) for row in rows]
        ids = self._draw_one(logits, draws[0]) if len(draws) == 1 else self._draw_warm(logits, draws)
        for number, is_greedy in enumerate(greedy):
            if is_greedy:
                ids[number] = _likeliest(rows[number])
        return ids

    def _draw_warm(self, logits: Tensor, draws: Sequence[Draw]) -> list[int]:
        """Inverse CDF over the whole vocabulary; what the filters remove is drawn again among what they leave."""
        tables = self._tables(len(draws))
        torch.softmax(_cool(logits, draws), -1, out=tables.probabilities)
        with np.errstate(invalid="ignore"):  # rows that are not finite are found by their total
            ids, places, total = _invert(tables, np.array([draw.uniform for draw in draws]))
        drawn: list[int] = ids.tolist()
        for row in np.flatnonzero(~np.isfinite(total)).tolist():
            drawn[row] = NOT_FINITE
        for row in _removed(tables, ids, total, draws):
            if drawn[row] != NOT_FINITE:
                chances = tables.array[row]
                drawn[row] = _draw_among(chances, _threshold(chances, draws[row].params), float(places[row]))
        return drawn

    def _draw_one(self, logits: Tensor, draw: Draw) -> list[int]:
        """The same for one row, number for number, in half the time."""
        tables = self._tables(1)
        torch.softmax(_cool(logits, [draw]), -1, out=tables.probabilities)
        id, place, total = _invert_one(tables, draw.uniform)
        if not math.isfinite(total):
            return [NOT_FINITE]
        if _removed(tables, np.array([id]), np.array([total]), [draw]):
            id = _draw_among(tables.array[0], _threshold(tables.array[0], draw.params), place)
        return [id]

    def _tables(self, rows: int) -> "_Tables":
        """The first rows of every buffer; kept, because slicing takes as long as a small step's arithmetic."""
        if rows not in self._views:
            probabilities, is_likelier, likelier = (buffer[:rows] for buffer in self._buffers)
            self._views[rows] = _Tables(
                probabilities=probabilities,
                array=probabilities.numpy(),
                in_blocks=probabilities.view(rows, -1, BLOCK),
                is_likelier=is_likelier,
                likelier=likelier,
                likelier_in_blocks=likelier.view(rows, -1, BLOCK),
                sums=self._sums[:rows],
                sums_array=self._sums[:rows].numpy(),
            )
        return self._views[rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """Views of the sampler's buffers, (B, V), (B, V / BLOCK, BLOCK) or (B, V / BLOCK)."""

    probabilities: Tensor
    array: NDArray[np.float32]
    in_blocks: Tensor
    is_likelier: Tensor  # 0 or 1 in float32: four times faster than bool
    likelier: Tensor
    likelier_in_blocks: Tensor
    sums: Tensor
    sums_array: NDArray[np.float32]


def _invert(
    tables: _Tables, numbers: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The token at each row's number, the number's place in that token's interval, and the row's total.

    Blocks first, then tokens inside one block: two short cumulative sums instead of one over the vocabulary.
    """
    every = np.arange(len(numbers))
    torch.sum(tables.in_blocks, -1, out=tables.sums)
    cumulative = np.cumsum(tables.sums_array, axis=1, dtype=np.float64)  # (B, V / BLOCK)
    total = cumulative[:, -1]
    target = np.minimum(numbers, _BELOW_ONE) * total
    block = np.minimum((cumulative <= target[:, None]).sum(1), cumulative.shape[1] - 1)
    start = np.where(block > 0, cumulative[every, block - 1], 0.0)
    inside = np.cumsum(tables.in_blocks.numpy()[every, block], axis=1, dtype=np.float64)  # (B, BLOCK)
    size = inside[:, -1]
    # the block was summed in float32, its tokens in float64: bring the rest to the tokens' own scale
    rest = np.minimum((target - start) / (cumulative[every, block] - start), _BELOW_ONE) * size
    token = np.minimum((inside <= rest[:, None]).sum(1), BLOCK - 1)
    before = np.where(token > 0, inside[every, token - 1], 0.0)
    places = np.clip((rest - before) / (inside[every, token] - before), 0.0, _BELOW_ONE)
    return block * BLOCK + token, places, total


def _invert_one(tables: _Tables, number: float) -> tuple[int, float, float]:
    """The same for one row."""
    torch.sum(tables.in_blocks, -1, out=tables.sums)
    cumulative = np.cumsum(tables.sums_array[0], dtype=np.float64)
    total = float(cumulative[-1])
    if not total > 0:
        return 0, 0.0, math.nan
    target = min(number, _BELOW_ONE) * total
    block = min(int(cumulative.searchsorted(target, "right")), len(cumulative) - 1)
    start = float(cumulative[block - 1]) if block else 0.0
    inside = np.cumsum(tables.array[0, block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
    rest = min((target - start) / (float(cumulative[block]) - start), _BELOW_ONE) * float(inside[-1])
    token = min(int(inside.searchsorted(rest, "right")), BLOCK - 1)
    before = float(inside[token - 1]) if token else 0.0
    place = min(max((rest - before) / (float(inside[token]) - before), 0.0), _BELOW_ONE)
    return block * BLOCK + token, place, total


def _removed(tables: _Tables, ids: NDArray[np.int64], total: NDArray[np.float64], draws: Sequence[Draw]) -> list[int]:
    """The rows whose token the filters remove, and those with top_k, which are always drawn among survivors."""
    chances = tables.array[np.arange(len(draws)), ids]
    removed: set[int] = set()
    asked: list[int] = []
    for row, (draw, chance) in enumerate(zip(draws, chances.tolist(), strict=True)):
        params = draw.params
        if params.top_k or (params.min_p and chance < params.min_p * float(tables.array[row].max())):
            removed.add(row)
        elif params.top_p < 1 and not chance > 1.001 - params.top_p:  # likelier ones hold at most 1 - chance
            asked.append(row)
    if asked:
        torch.gt(tables.probabilities, torch.from_numpy(chances).unsqueeze(1), out=tables.is_likelier)
        torch.mul(tables.probabilities, tables.is_likelier, out=tables.likelier)
        torch.sum(tables.likelier_in_blocks, -1, out=tables.sums)
        mass = tables.sums_array.sum(axis=1, dtype=np.float64)
        removed.update(row for row in asked if mass[row] >= draws[row].params.top_p * total[row])
    return sorted(removed)


def log_probabilities(logits: Tensor, id: int, top: int) -> tuple[float, list[tuple[int, float]]]:
    """The log probability of a token and the `top` likeliest ones, before any filter. logits (V,)."""
    table = torch.log_softmax(logits, -1)
    values, ids = torch.topk(table, top)
    return float(table[id]), list(zip(ids.tolist(), values.tolist(), strict=True))


def restrict(logits: Tensor, ids: Sequence[int]) -> None:
    """Leave only the tokens `ids` to choose from. logits (V,) are changed in place."""
    row = logits.numpy()
    kept = row[ids]
    row.fill(-np.inf)
    row[ids] = kept


class StepDecoder(Protocol):
    """What the plain loop needs of `core.decoder.Decoder`."""

    padded_vocab_size: int
    widths: tuple[int, ...]

    @property
    def hidden(self) -> NDArray[np.float32]: ...

    def reset(self, slot: int) -> None: ...

    def advance(self, ids: Sequence[int], slots: Sequence[int]) -> None: ...

    def step(self, ids: Sequence[int], slots: Sequence[int]) -> Tensor: ...


def generate_plain(
    decoder: StepDecoder, prompt_ids: Sequence[int], params: SamplingParams, first_ids: Sequence[int] = ()
) -> Iterator[int]:
    """Yield max_tokens ids after the prompt, one stream, one step at a time: what the engine must reproduce.

    The first one is among `first_ids`, where there are any.
    """
    sampler = Sampler(decoder.padded_vocab_size, 1)
    cache = NeuralCache(decoder.widths[-1], params.cache_strength) if params.cache_strength else None
    ids = list(prompt_ids)
    decoder.reset(0)
    for position, id in enumerate(ids[:-1]):
        decoder.advance([id], [0])
        if cache is not None:
            cache.record(position, decoder.hidden[0], ids[position + 1])
    for _ in range(params.max_tokens):
        draw = Draw(params, uniform(params.seed, len(ids)), ids[-PENALTY_WINDOW:])
        logits = decoder.step(ids[-1:], [0])
        if cache is not None:
            cache.mix(len(ids) - 1, decoder.hidden[0], logits[0].numpy())
        if first_ids and len(ids) == len(prompt_ids):
            restrict(logits[0], first_ids)
        ids += sampler.draw(logits, [draw])
        if cache is not None:
            cache.record(len(ids) - 2, decoder.hidden[0], ids[-1])
        yield ids[-1]


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def _penalise(logits: NDArray[np.float32], recent: Sequence[int], penalty: float) -> None:
    """Make tokens that stand in `recent` less likely, once each (Keskar et al., CTRL, 2019, section 4.1)."""
    ids = np.asarray(recent, dtype=np.int64)
    seen = logits[ids]
    logits[ids] = np.where(seen > 0, seen / np.float32(penalty), seen * np.float32(penalty))


def _cool(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Divide each row by its temperature, in place; greedy rows stay as they are."""
    warm = [draw.params.temperature for draw in draws]
    factors = [1 / t if t >= GREEDY_BELOW else 1.0 for t in warm]
    if len(set(factors)) == 1:
        return logits.mul_(factors[0])
    return logits.mul_(torch.tensor(factors, dtype=torch.float32).unsqueeze(1))


def _likeliest(logits: NDArray[np.float32]) -> int:
    id = int(np.argmax(logits))  # the first of equals; NaN counts as the largest
    return id if np.isfinite(logits[id]) else NOT_FINITE


def _threshold(probabilities: NDArray[np.float32], params: SamplingParams) -> float:
    """The probability of the least likely token that top_k, top_p and min_p leave."""
    ordered = np.sort(probabilities)[::-1]
    if params.top_k:
        ordered = ordered[: np.searchsorted(-ordered, -ordered[min(params.top_k, len(ordered)) - 1], side="right")]
    threshold = ordered[-1]
    if params.top_p < 1:
        cumulative = np.cumsum(ordered, dtype=np.float64)
        threshold = ordered[np.searchsorted(cumulative[:-1], params.top_p * cumulative[-1])]
    return float(max(threshold, np.float32(params.min_p) * ordered[0]))


def _draw_among(probabilities: NDArray[np.float32], threshold: float, number: float) -> int:
    """Inverse CDF in vocabulary order over the tokens that are at least as likely as `threshold`."""
    kept: NDArray[Any] = np.flatnonzero(probabilities >= np.float32(threshold))
    cumulative = np.cumsum(probabilities[kept], dtype=np.float64)
    place = int(np.searchsorted(cumulative, number * cumulative[-1], side="right"))
    return int(kept[min(place, len(kept) - 1)])
