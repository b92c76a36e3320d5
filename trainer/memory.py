"""Memory at test time: the model goes on learning from the text it is reading, and is measured doing so.

The neural cache (Grave, Joulin, Usunier 2017) remembers what followed each recent hidden state; dynamic evaluation
(Krause, Kahembwe, Murray, Renals 2018) takes a gradient step after each stretch of text, in their RMS form with decay
towards the trained weights. A token is always predicted before it is learned from. Both read the test text, so their
figures stand in a column of their own; their settings are chosen on validation text only.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.models import State, detach_state
from core.tokenizer import Tokenizer

from .graphs import Graph
from .tokens import bounded_exp, count_text

log = logging.getLogger(__name__)

_LEAST_GAIN = 1e-4  # nats a token: on a short text a decay towards nothing gains less for ever
_STATISTICS_TOKENS = 100_000  # that gradients are taken from: 10,000 hold 7 % of the words of WikiText-2, these 29 %
_CACHED = 1 << 15  # weights that are moved at once, so that five rows of them stay in a core's cache
SEGMENT = 20  # tokens that dynamic evaluation reads before each step
STATIC_SEGMENT = 256  # tokens read at once where nothing is learned; does not change the figures

_CACHE_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)

Ids = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """`window` tokens are remembered; `flatness` is Grave's theta, `share` lambda, the cache's part of the mixture."""

    window: int = 2000
    flatness: float = 0.3
    share: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicSettings:
    """A step of `learning_rate` every `segment` tokens, then `decay` of the way back to the trained weights.

    Both are a weight's own, by the root mean square of its gradient, in units of the mean over all weights: the step is
    divided by that and `damping`, the decay multiplied by that and `floor`. For rows of words that the statistics
    hardly met it is near nothing: without damping noise moves them as far as any other at every step, and without a
    floor they never come back. No weight moves by more than `reach` learning rates at once.
    """

    segment: int = SEGMENT
    learning_rate: float = 2.4e-3
    decay: float = 2e-3
    damping: float = 4.0
    floor: float = 0.2
    reach: float = 20.0


def token_nats(
    model: Any,
    ids: Ids,
    *,
    cache: CacheSettings | None = None,
    dynamic: DynamicSettings | None = None,
    statistics: "GradientStatistics | None" = None,
) -> npt.NDArray[np.float64]:
    """Return -log p of each token of `ids` but the first, one stream, the state carried from the zero state.

    Dynamic evaluation needs `statistics` of text that is not the test text. The model's weights are as before after it.
    """
    return _nats_by_cache(model, ids, [cache], dynamic, statistics)[0]


def _nats_by_cache(
    model: Any,
    ids: Ids,
    caches: Sequence[CacheSettings | None],
    dynamic: DynamicSettings | None,
    statistics: "GradientStatistics | None",
) -> list[npt.NDArray[np.float64]]:
    """Return -log p once for each cache, None for without one, all from one reading: none changes the network."""
    segment = STATIC_SEGMENT if dynamic is None else dynamic.segment
    memories = [None if cache is None else _Cache(cache) for cache in caches]
    nats: list[list[Tensor]] = [[] for _ in caches]
    with _learning(model, dynamic, statistics) as learn:
        for losses, outputs, targets in _read(model, ids, segment, learn):
            for memory, parts in zip(memories, nats, strict=True):
                parts.append(losses if memory is None else memory.mixed(losses, outputs, targets))
    return [torch.cat(parts).double().cpu().numpy() for parts in nats]


def _read(
    model: Any, ids: Ids, segment: int, learn: Callable[[Tensor], None]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield losses (T,), outputs (T, H) and targets (T,) of each segment, when `learn` has had its mean loss."""
    model.eval()
    state = model.init_state(1)
    device = state[0].device

    def read(inputs: Tensor, targets: Tensor, state: State) -> tuple[tuple[Tensor, Tensor], State]:
        hidden, state = model.hidden(inputs, state)
        outputs = hidden.output[:, 0]  # (T, H)
        logits = functional.linear(outputs, model.output_weight, model.output_bias)
        losses = functional.cross_entropy(logits.float(), targets, reduction="none")  # (T,)
        learn(losses.mean())
        return (losses.detach(), outputs.detach()), detach_state(state)

    graph = Graph(read, device)
    for inputs, targets in _segments(ids, segment):
        begins_inside = bool((inputs[1:] == model.config.document_id).any())
        targets = targets.to(device)
        (losses, outputs), state = graph(None if begins_inside else len(targets), inputs, targets, state)
        yield losses, outputs, targets


class Memory:
    """Both kinds of memory, made ready on validation `ids`, never the text to be measured.

    Their settings are chosen on the first `tune_tokens`; the gradients' statistics are of more.
    """

    def __init__(
        self, model: Any, ids: Ids, *, tune_tokens: int, cache: bool, dynamic: bool, segment: int = SEGMENT
    ) -> None:
        self._model = model
        tuning = ids[:tune_tokens]
        self._kinds: dict[str, tuple[CacheSettings | None, DynamicSettings | None]] = {"static": (None, None)}
        self._statistics: GradientStatistics | None = None
        if cache:
            remembering = tune_cache(model, tuning)
            self._kinds["cache"] = remembering, None
        if dynamic:
            self._statistics = GradientStatistics(model, ids, segment=segment)
            learning = tune_dynamic(model, tuning, self._statistics, segment=segment)
            self._kinds["dynamic"] = None, learning
            if cache:
                self._kinds["cache_and_dynamic"] = tune_both(model, tuning, remembering, learning, self._statistics)

    def figures(self, ids: Ids, texts: Sequence[str], tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
        """Return the totals for each kind, over the raw `texts` that `ids` stand for; where one ends does not count."""
        words, size = (sum(counts) for counts in zip(*map(count_text, texts), strict=True))
        is_counted = ids[1:] != tokenizer.document_id
        results = {}
        for name, (nats, settings) in self.nats(ids).items():
            total = float(nats[is_counted].sum())
            results[name] = {
                "nats": total,
                "bits_per_byte": total / math.log(2) / size,
                "word_perplexity": bounded_exp(total / words) if words else None,
                "token_perplexity": bounded_exp(total / int(is_counted.sum())),
                "settings": settings,
            }
        return results

    def nats(self, ids: Ids) -> dict[str, tuple[npt.NDArray[np.float64], dict[str, Any]]]:
        """Return -log p of each token after the first, and the settings, of each kind of memory there is and of none.

        The kinds: "static", "cache", "dynamic", "cache_and_dynamic".
        """
        results = {}
        for dynamic in dict.fromkeys(dynamic for _, dynamic in self._kinds.values()):
            caches = {name: cache for name, (cache, beside) in self._kinds.items() if beside == dynamic}
            readings = _nats_by_cache(self._model, ids, list(caches.values()), dynamic, self._statistics)
            for (name, cache), nats in zip(caches.items(), readings, strict=True):
                parts = [asdict(settings) for settings in (cache, dynamic) if settings is not None]
                results[name] = nats, {key: value for part in parts for key, value in part.items()}
        return results


class GradientStatistics:
    """The root mean square of each weight's gradient, over stretches of text as long as the segments to come."""

    def __init__(self, model: Any, ids: Ids, *, segment: int) -> None:
        ids = ids[: _STATISTICS_TOKENS + 1]
        weights = _Weights(model)
        total = torch.zeros_like(weights.flat)

        def add(loss: Tensor) -> None:
            gradient = weights.gradient(loss)
            total.addcmul_(gradient, gradient)

        with _gradients(model):
            for _ in _read(model, ids, segment, add):
                pass
        weights.release()
        self.rms = (total / math.ceil((len(ids) - 1) / segment)).sqrt()


def tune_cache(model: Any, ids: Ids, *, windows: Sequence[int] = (500, 2000, 5000)) -> CacheSettings:
    """Choose the cache's settings on validation `ids`: the best of a grid, all from one pass of the model."""
    with _learning(model, None, None) as learn:
        segments = list(_read(model, ids, STATIC_SEGMENT, learn))
    losses, outputs, targets = (torch.cat(parts) for parts in zip(*segments, strict=True))
    best, lowest = CacheSettings(share=0.0), float(losses.sum())
    scale = 1 / float(outputs.square().sum(1).mean())  # flatness counts against the size of the hidden states
    for window in windows:
        for flatness in (1 * scale, 2 * scale, 4 * scale, 8 * scale, 16 * scale):
            settings = CacheSettings(window=window, flatness=flatness)
            shares = _shares_of_cache(settings, outputs, targets)
            for share in _CACHE_SHARES:
                nats = float(_mixture(losses, shares, share).sum())
                if nats < lowest:
                    best, lowest = replace(settings, share=share), nats
    log.info("cache=%s nats=%.4f static=%.4f", best, lowest / len(losses), float(losses.mean()))
    return best


def tune_dynamic(model: Any, ids: Ids, statistics: GradientStatistics, *, segment: int = SEGMENT) -> DynamicSettings:
    """Choose learning rate, then decay, on validation `ids`: each up or down by steps while that helps."""
    tried: dict[DynamicSettings, float] = {}

    def nats(settings: DynamicSettings) -> float:
        if settings not in tried:
            mean = float(token_nats(model, ids, dynamic=settings, statistics=statistics).mean())
            tried[settings] = mean if math.isfinite(mean) else math.inf
            log.info("dynamic=%s nats=%.4f", settings, tried[settings])
        return tried[settings]

    best = DynamicSettings(segment=segment)
    for name, factor in (("learning_rate", 2.0), ("decay", 4.0), ("learning_rate", math.sqrt(2))):
        best = _climb(best, name, factor, nats)
    return best


def tune_both(
    model: Any, ids: Ids, cache: CacheSettings, dynamic: DynamicSettings, statistics: GradientStatistics
) -> tuple[CacheSettings, DynamicSettings]:
    """Choose share and learning rate once more for a cache of a model that learns: its hidden states drift with it."""
    caches = [replace(cache, share=share) for share in (0.0, *_CACHE_SHARES)]
    best, lowest = (caches[0], dynamic), math.inf
    while True:
        totals = [float(nats.sum()) for nats in _nats_by_cache(model, ids, caches, dynamic, statistics)]
        number = int(np.nanargmin(totals))
        if not totals[number] < lowest:
            return best
        best, lowest = (caches[number], dynamic), totals[number]
        dynamic = replace(dynamic, learning_rate=dynamic.learning_rate / 2)


def _climb(
    best: DynamicSettings, name: str, factor: float, nats: Callable[[DynamicSettings], float]
) -> DynamicSettings:
    for step in (factor, 1 / factor):
        start = best
        while nats(neighbour := replace(best, **{name: getattr(best, name) * step})) < nats(best) - _LEAST_GAIN:
            best = neighbour
        if best != start:
            break
    return best


class _Cache:
    """The last `window` hidden states and the tokens that followed them."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._outputs: Tensor | None = None
        self._targets: Tensor | None = None

    def mixed(self, losses: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (T,) with the cache's help, then remember the segment."""
        window = self._settings.window
        if self._outputs is not None and self._targets is not None:
            outputs = torch.cat((self._outputs, outputs))
            targets = torch.cat((self._targets, targets))
        shares = _shares_of_cache(self._settings, outputs, targets, last=len(losses))
        self._outputs, self._targets = outputs[-window:], targets[-window:]
        return _mixture(losses, shares, self._settings.share)


def _shares_of_cache(settings: CacheSettings, outputs: Tensor, targets: Tensor, last: int | None = None) -> Tensor:
    """Return the cache's probability of each of the `last` targets (all by default); -1 where the cache is empty."""
    count, shares = len(targets), []
    for start in range(count - (count if last is None else last), count, STATIC_SEGMENT):
        stop = min(start + STATIC_SEGMENT, count)
        low = max(0, start - settings.window)
        scores = settings.flatness * (outputs[start:stop] @ outputs[low:stop].T)  # (T, N)
        distance = torch.arange(start, stop, device=scores.device)[:, None] - torch.arange(
            low, stop, device=scores.device
        )
        scores = scores.masked_fill((distance < 1) | (distance > settings.window), -torch.inf)
        weights = scores.softmax(dim=1).nan_to_num()  # the first token's row has nothing to look back on
        same = targets[start:stop, None] == targets[None, low:stop]
        shares.append((weights * same).sum(1))
    if last is None or last == count:
        shares[0][0] = -1
    return torch.cat(shares)


def _mixture(losses: Tensor, shares: Tensor, share: float) -> Tensor:
    mixed = -((1 - share) * (-losses).exp() + share * shares).clamp_min(1e-30).log()
    return torch.where(shares < 0, losses, mixed)


@contextmanager
def _learning(
    model: Any, settings: DynamicSettings | None, statistics: GradientStatistics | None
) -> Iterator[Callable[[Tensor], None]]:
    """Give a function that learns from a loss; put the weights back at the end."""
    if settings is None:
        with torch.no_grad():
            yield lambda loss: None
        return
    assert statistics is not None, "dynamic evaluation needs gradient statistics"
    weights = _Weights(model)
    trained = weights.flat.clone()
    mean = statistics.rms.mean()
    rates = settings.learning_rate / (statistics.rms + settings.damping * mean)
    decay = (settings.decay * (statistics.rms / mean + settings.floor)).clamp_max(1.0)
    furthest = settings.reach * settings.learning_rate

    def learn(loss: Tensor) -> None:
        whole = weights.flat, weights.gradient(loss), rates, trained, decay
        at_once = len(trained) if trained.is_cuda else _CACHED
        for values, gradient, rate, goal, share in zip(
            *(torch.split(tensor, at_once) for tensor in whole), strict=True
        ):
            values.sub_(gradient.mul_(rate).clamp_(-furthest, furthest)).lerp_(goal, share)

    try:
        with _gradients(model):
            yield learn
    finally:
        weights.flat.copy_(trained)
        weights.release()


@contextmanager
def _gradients(model: nn.Module) -> Iterator[None]:
    """Give gradients of a model that does not drop out: of `nn.LSTM`, cuDNN has them in training alone."""
    has_stock = any(isinstance(module, nn.LSTM) for module in model.modules())
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not has_stock):
        yield


class _Weights:
    """A model's parameters as views of one flat tensor, so that a step over all of them is one operation."""

    def __init__(self, model: Any) -> None:
        self._parameters = list(model.parameters())
        self.flat = torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters])
        self._gradient = torch.zeros_like(self.flat)
        for parameter, values, gradient in zip(
            self._parameters, self._views(self.flat), self._views(self._gradient), strict=True
        ):
            parameter.data = values
            parameter.grad = gradient

    def gradient(self, loss: Tensor) -> Tensor:
        """Return the gradient of `loss` by all weights; valid until the next call."""
        self._gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        return self._gradient

    def release(self) -> None:
        """Give every parameter memory of its own again."""
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None

    def _views(self, flat: Tensor) -> Iterable[Tensor]:
        sizes = [parameter.numel() for parameter in self._parameters]
        return [
            part.view_as(parameter) for part, parameter in zip(torch.split(flat, sizes), self._parameters, strict=True)
        ]


def _segments(ids: Ids, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs (T, 1) and the targets (T,) that follow them."""
    for start in range(0, len(ids) - 1, length):
        window = torch.from_numpy(np.asarray(ids[start : start + length + 1], dtype=np.int64))
        yield window[:-1, None], window[1:]
