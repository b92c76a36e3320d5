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
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

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
_ROUNDING = 0.001  # more than any sum of probabilities is off
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
    """Draws one token for each row of a batch."""

    def __init__(self, vocab_size: int) -> None:
        assert vocab_size % BLOCK == 0, vocab_size
        self._parts = vocab_size // 8, vocab_size  # an eighth shows already that most tokens survive top_p
        self._settings: list[SamplingParams] = []
        self._columns = _columns([])

    def draw(self, logits: Tensor, draws: Sequence[Draw]) -> list[int]:
        """Return a token id per row, or NOT_FINITE. logits (B, V) float32, contiguous, are overwritten."""
        settings = [draw.params for draw in draws]
        if settings != self._settings:
            self._settings, self._columns = settings, _columns(settings)
        rows = logits.numpy()
        for row in self._columns.penalised:
            _penalise(rows[row], draws[row].recent, settings[row].repetition_penalty)
        greedy = [(row, _likeliest(rows[row])) for row in self._columns.greedy]
        if len(greedy) == len(draws):
            return [id for _, id in greedy]
        probabilities = torch.softmax(logits.mul_(self._columns.factors), -1, out=logits)
        ids = self._draw_one(probabilities, draws[0]) if len(draws) == 1 else self._draw_many(probabilities, draws)
        for row, id in greedy:
            ids[row] = id
        return ids

    def _draw_many(self, probabilities: Tensor, draws: Sequence[Draw]) -> list[int]:
        """Inverse CDF over the whole vocabulary, again for what min_p alone removes; `_filter` sees to the others."""
        table, columns = probabilities.numpy(), self._columns
        with np.errstate(invalid="ignore"):  # rows that are not finite are found by their total
            ids, places, total = _invert(probabilities, np.array([draw.uniform for draw in draws]))
        chances = table[np.arange(len(draws)), ids]
        if columns.has_min_p:
            removed, least = _below_min_p(probabilities, chances, columns)
            part = probabilities.index_select(0, torch.from_numpy(removed))
            ids[removed] = _invert(part.mul_(part >= torch.from_numpy(least).unsqueeze(1)), places[removed])[0]
        asked = np.flatnonzero(chances <= columns.tail)
        for size in self._parts:
            part = probabilities[:, :size].index_select(0, torch.from_numpy(asked))
            unlikely = torch.empty_like(part)  # 0 or 1 in float32: four times faster than bool
            torch.le(part, torch.from_numpy(chances[asked]).unsqueeze(1), out=unlikely)
            asked = asked[unlikely.mul_(part).sum(1).numpy() <= (columns.tail * total)[asked]]
        for row in asked.tolist():
            ids[row] = _filter(table[row], draws[row].params, ids[row], places[row], total[row])
        ids[~np.isfinite(total)] = NOT_FINITE
        return ids.tolist()  # type: ignore[no-any-return]

    def _draw_one(self, probabilities: Tensor, draw: Draw) -> list[int]:
        """The same for one row, in half the time."""
        table, columns = probabilities.numpy()[0], self._columns
        id, place, total = _invert_one(probabilities, draw.uniform)
        if not math.isfinite(total):
            return [NOT_FINITE]
        chance, part = table[id], table[: self._parts[0]]
        if chance <= columns.min_p_below[0] and chance < (least := columns.min_p[0] * table.max()):
            table[table < least] = 0
            return [_invert_one(probabilities, place)[0]]
        if chance <= columns.tail[0] and part[part <= chance].sum() <= columns.tail[0] * total:
            id = _filter(table, draw.params, id, place, total)
        return [id]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The settings of a batch as arrays, made once for as long as it stays the same."""

    factors: Tensor  # (B, 1), or one number where all rows share it
    greedy: list[int]
    penalised: list[int]
    has_min_p: bool  # as the only filter of any row; beside others, it is one of those that `tail` leads to
    min_p: NDArray[np.float32]
    min_p_below: NDArray[np.float64]  # a likelier token certainly survives min_p
    tail: NDArray[np.float64]  # a likelier one, or one that with what is no likelier holds more, survives the rest


def _columns(settings: Sequence[SamplingParams]) -> _Columns:
    warm = [1 / params.temperature if params.temperature >= GREEDY_BELOW else 1.0 for params in settings]
    factors = torch.tensor(warm, dtype=torch.float32)
    top_p, min_p, top_k = (
        np.array([getattr(params, name) for params in settings]) for name in ("top_p", "min_p", "top_k")
    )
    is_alone = (min_p > 0) & (top_p >= 1) & (top_k == 0)
    tail = np.where(top_p < 1, 1 - top_p + _ROUNDING, -1.0)
    tail[(top_k > 0) | ((min_p > 0) & ~is_alone)] = np.inf
    return _Columns(
        factors=factors[0] if len(set(warm)) == 1 else factors.unsqueeze(1),
        greedy=[row for row, params in enumerate(settings) if params.temperature < GREEDY_BELOW],
        penalised=[row for row, params in enumerate(settings) if params.repetition_penalty != 1.0],
        has_min_p=bool(is_alone.any()),
        min_p=min_p.astype(np.float32),
        min_p_below=np.where(is_alone, min_p + _ROUNDING, -1.0),
        tail=tail,
    )


def _below_min_p(
    probabilities: Tensor, chances: NDArray[np.float32], columns: _Columns
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows whose token, of these chances, min_p alone removes, and what it would have to reach in each."""
    unsure = np.flatnonzero(chances <= columns.min_p_below)
    least = columns.min_p[unsure] * probabilities.index_select(0, torch.from_numpy(unsure)).amax(1).numpy()
    is_removed = chances[unsure] < least
    return unsure[is_removed], least[is_removed]


def _invert(
    probabilities: Tensor, numbers: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The token at each row's number, the number's place in that token's interval, and the row's total.

    Blocks first, then tokens inside one block: two short cumulative sums instead of one over the vocabulary.
    """
    every, in_blocks = np.arange(len(numbers)), probabilities.view(len(numbers), probabilities.shape[1] // BLOCK, BLOCK)
    cumulative = in_blocks.sum(-1).cumsum(1, dtype=torch.float64).numpy()  # (B, V / BLOCK)
    total = cumulative[:, -1]
    target = np.minimum(numbers, _BELOW_ONE) * total
    block = np.minimum((cumulative <= target[:, None]).sum(1), cumulative.shape[1] - 1)
    start = np.where(block > 0, cumulative[every, block - 1], 0.0)
    inside = torch.from_numpy(in_blocks.numpy()[every, block]).cumsum(1, dtype=torch.float64).numpy()  # (B, BLOCK)
    size = inside[:, -1]
    # the block was summed in float32, its tokens in float64: bring the rest to the tokens' own scale
    rest = np.minimum((target - start) / (cumulative[every, block] - start), _BELOW_ONE) * size
    token = np.minimum((inside <= rest[:, None]).sum(1), BLOCK - 1)
    before = np.where(token > 0, inside[every, token - 1], 0.0)
    places = np.clip((rest - before) / (inside[every, token] - before), 0.0, _BELOW_ONE)
    return block * BLOCK + token, places, total


def _invert_one(probabilities: Tensor, number: float) -> tuple[int, float, float]:
    """The same for one row: Python's own floats are quicker than arrays of a hundred."""
    in_blocks = probabilities.view(-1, BLOCK)
    cumulative = list(accumulate(in_blocks.sum(-1).tolist()))
    total = cumulative[-1]
    if not total > 0:
        return 0, 0.0, math.nan
    target = min(number, _BELOW_ONE) * total
    block = min(bisect(cumulative, target), len(cumulative) - 1)
    start = cumulative[block - 1] if block else 0.0
    inside = list(accumulate(in_blocks[block].tolist()))
    rest = min((target - start) / (cumulative[block] - start), _BELOW_ONE) * inside[-1]
    token = min(bisect(inside, rest), BLOCK - 1)
    before = inside[token - 1] if token else 0.0
    place = min(max((rest - before) / (inside[token] - before), 0.0), _BELOW_ONE)
    return block * BLOCK + token, place, total


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


def round_up(size: int, multiple: int) -> int:
    """The next multiple at or above a size."""
    return -(-size // multiple) * multiple


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
    sampler = Sampler(decoder.padded_vocab_size)
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


def _likeliest(logits: NDArray[np.float32]) -> int:
    id = int(np.argmax(logits))  # the first of equals; NaN counts as the largest
    return id if np.isfinite(logits[id]) else NOT_FINITE


def _filter(probabilities: NDArray[np.float32], params: SamplingParams, id: int, place: float, total: float) -> int:
    """`id` if the filters leave it, else by inverse CDF one of those they leave. probabilities (V,) and their total.

    Where they remove a token, they remove all that are no likelier: few are left to sort.
    """
    chance = probabilities[id]
    kept = np.flatnonzero(probabilities > (-1.0 if params.top_k else chance))
    left = probabilities[kept]
    least = np.float32(params.min_p) * left.max(initial=chance)
    if not params.top_k and chance >= least and left.sum(dtype=np.float64) < params.top_p * total:
        return id
    ordered = np.sort(left)[::-1]
    if params.top_k:
        ordered = ordered[ordered >= ordered[min(params.top_k, len(ordered)) - 1]]
        total = ordered.sum(dtype=np.float64)
    mass = np.cumsum(ordered, dtype=np.float64)
    unlikeliest = ordered[min(int(mass.searchsorted(params.top_p * total)), len(ordered) - 1)]
    survives = left >= max(unlikeliest, least)
    cumulative = np.cumsum(left[survives], dtype=np.float64)
    chosen = int(cumulative.searchsorted(place * cumulative[-1], "right"))
    return int(kept[survives][min(chosen, len(cumulative) - 1)])
