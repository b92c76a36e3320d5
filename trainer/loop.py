"""The training loop: truncated back-propagation with carried state, validation, the best checkpoint, exact resume."""

import json
import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import CheckpointError, CorpusError

from . import distributed, resume
from .averaging import TriggeredAverage
from .batches import Batches
from .schedule import Clock, Plateau, one_cycle
from .step import Figures, Stepper
from .validate import Validation

log = logging.getLogger(__name__)

_LEAST_MEASURED, _MEASURED = 16_384, 400_000  # held-out tokens at the end of a run, in any case and where there is time
_MOST_VALIDATED, _LEAST_VALIDATED = 100_000, 8192  # tokens at each validation; in between, of a run against the clock,
_VALIDATED_SHARE = 0.02  # so much of all that it will have trained on: a token read costs a third of one trained on
_ENDING = 4  # validations: what the end of a run takes, which has one, measures up to two parts, and writes a sample


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How to train, whatever the model and the data."""

    bptt: int = 64
    variable_bptt: bool = False  # windows of random length, the learning rate in proportion (Merity et al. 2017, 4.1)
    optimizer: str = "adamw"  # or "sgd"
    averaging: bool = False  # validate and keep the mean of the weights, once triggered
    learning_rate: float = 5e-3
    weight_decay: float = 0.05  # by AdamW of matrices alone, by SGD of biases too
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    schedule: str = "one-cycle"  # or "plateau", or "constant"
    plateau_factor: float = 0.5
    activation_penalty: float = 0.0  # AR: alpha of Merity et al. 2017
    slowness_penalty: float = 0.0  # TAR: beta
    dropout_from: float = 0.0  # dropout is full from this progress on ...
    dropout_before: float = 1.0  # ... and multiplied by this before
    validations: int = 25  # in the whole run
    validate_tokens: int | None = None  # that each of them reads; None for as many as the run's time allows
    save_every_s: float = 180.0
    patience: int | None = None  # validations without improvement after which to stop early
    bfloat16: bool = True
    int8: bool = False
    seed: int = 1


class Loop:
    """One run. `validate` is told how many tokens to read at most, `on_best` is called with each validation that beats
    all before, `report` with the facts of a step.
    """

    def __init__(
        self,
        model: Any,
        batches: Batches,
        settings: LoopSettings,
        clock: Clock,
        *,
        lanes: int,
        folder: Path,
        validate: Callable[[int], Validation],
        on_best: Callable[[Validation], None],
        report: Callable[[dict[str, float]], None],
    ) -> None:
        self.model, self.settings, self.clock = model, settings, clock
        self.step, self.tokens = 0, 0
        self.best = math.inf
        self.history: list[dict[str, float]] = []
        self._batches, self._folder = batches, folder
        self._validate, self._on_best, self._report = validate, on_best, report
        self._device = model.output_bias.device
        self._optimizer = _optimizer(model, settings)
        self._average = TriggeredAverage(model)
        self._plateau = Plateau(settings.plateau_factor)
        self._stepper = Stepper(
            model,
            self._optimizer,
            lanes=lanes,
            bfloat16=settings.bfloat16,
            int8=settings.int8,
            clip=settings.clip,
            activation_penalty=settings.activation_penalty,
            slowness_penalty=settings.slowness_penalty,
        )
        self._unsettled: tuple[dict[str, float], Figures] | None = None  # the last step, where it is not reported yet
        self._began = 1.0  # progress before the first step: laying the data out takes time as well
        self._step_s, self._check_s = 0.0, 0.0  # what the last step took, and the last validation with its checkpoint
        self._validations = settings.validations  # shares of the run after which one was due
        self._validated = 0  # tokens that each validation reads
        self._read = 0  # tokens that the last one found, where the split is shorter than that
        self._validating_s = 0.0
        self._without_gain = 0
        self._stop = False

    def run(self, *, stop_at_step: int | None = None) -> bool:
        """Train to the end. True if it got there, False if a signal or `stop_at_step` ended it early, state saved."""
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        last_save = time.monotonic()
        has_begun = False
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        log.info("started step=%d weights=%d processes=%d", self.step, weights, distributed.world_size())
        try:
            while True:
                wants_stop = self._stop or self.step == stop_at_step
                wants_save = time.monotonic() - last_save > self.settings.save_every_s
                facts = [
                    self.clock.progress(self.step, next_s=self._step_s, ending_s=_ENDING * self._check_s),
                    wants_stop,
                    wants_save,
                    self._has_time_to_validate(),
                ]
                progress, stop, save, may_validate = distributed.from_first(facts, self._device)
                due = int(progress * self.settings.validations)
                if not has_begun:
                    self._begin(progress, due)
                    has_begun = True
                has_nothing = progress >= 1 and self.best == math.inf  # a disk was full, and this run goes on after it
                if (due > self._validations or self._ends_epoch() or has_nothing) and (may_validate or progress >= 1):
                    self._validations = due
                    self._check(progress)
                if progress >= 1:
                    self.clock.ended_minutes = self.clock.minutes
                if progress >= 1 or self._is_hopeless() or stop:
                    self.save()
                    return not stop or progress >= 1
                if save:
                    self.save()
                    last_save = time.monotonic()
                began = self.clock.seconds()
                self._train_step(progress)
                self._step_s = self.clock.seconds() - began
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _begin(self, progress: float, due: int) -> None:
        """Note where the run stands before its first step; one that goes on for longer stands further back than it did.

        Raises CorpusError where no time is left for a step.
        """
        if self.step == 0 and progress >= 1:
            raise CorpusError(
                f"no time is left to train: getting ready took {self.clock.seconds():.0f} s; give it more minutes"
            )
        self._began = min(self._began, progress)
        self._validations = min(self._validations, due)

    def _train_step(self, progress: float) -> None:
        settings = self.settings
        steps = _window_length(settings, self.step)
        cycle = one_cycle((progress - self._began) / (1 - self._began))
        scale = {"plateau": self._plateau.scale, "constant": 1.0}.get(settings.schedule, cycle)
        rate = settings.learning_rate * scale * steps / settings.bptt
        self.model.dropout_scale = 1.0 if progress >= settings.dropout_from else settings.dropout_before
        self.model.train()
        inputs, targets = self._batches.window(steps, progress)
        figures = self._stepper.take(inputs, targets, learning_rate=rate, aligned=self._batches.aligned)
        self._average.update()
        self.step += 1
        self.tokens += int((targets >= 0).sum()) * distributed.world_size()
        facts = {"step": self.step, "progress": progress, "lr": rate, "tokens": self.tokens}
        before, self._unsettled = self._unsettled, (facts, figures)
        self._settle(before if self._device.type == "cuda" else self._unsettled)

    def _settle(self, step: tuple[dict[str, float], Figures] | None) -> None:
        """Report a step once it is through; on a GPU the next one has been asked for by then.

        Raises CorpusError where it came to nothing that is a number.
        """
        if step is None:
            return
        if step is self._unsettled:
            self._unsettled = None
        facts = step[0] | step[1].read()
        if not math.isfinite(facts["norm"]):
            kept = "no checkpoint was kept before" if self.best == math.inf else "the best checkpoint is kept"
            raise CorpusError(f"the loss is not a number any more at step {facts['step'] - 1:g}; {kept}")
        self._report(facts | {"seconds": self.clock.seconds()})

    def _ends_epoch(self) -> bool:
        """Whether a rule that goes by epochs has not yet seen how the last one ended."""
        return (self.settings.schedule == "plateau" or self.settings.averaging) and self._is_new_epoch

    @property
    def _is_new_epoch(self) -> bool:
        return self._epoch > self._plateau.epoch

    @property
    def _epoch(self) -> int:
        return self.tokens // self._batches.epoch_tokens

    def _affordable(self, progress: float) -> int:
        """How many tokens each validation can read: as many at the last as at the first, or they would not compare."""
        if self.settings.validate_tokens is not None:
            return self.settings.validate_tokens
        if self.clock.minutes is None:
            return _MOST_VALIDATED
        expected = self.tokens * (1 - self._began) / max(progress - self._began, 1e-9)
        return max(_LEAST_VALIDATED, min(int(_VALIDATED_SHARE * expected), _MOST_VALIDATED))

    def measurable(self) -> int:
        """How many held-out tokens can be read when the last validation is over: in half of the time that is left."""
        if self.clock.minutes is None:
            return max(_MEASURED, self.tokens // 20)
        tokens_per_s = self._read / self._check_s if self._check_s else 0.0
        affordable = int(tokens_per_s * max(0.0, self.clock.seconds_left()) / 2)
        measurable = max(_LEAST_MEASURED, min(affordable, max(_MEASURED, self.tokens // 20)))
        return int(distributed.from_first([measurable], self._device)[0])

    def _has_time_to_validate(self) -> bool:
        """A run against the clock spends at most a tenth of it on validation; one of so many steps must not care."""
        return self.clock.minutes is None or self._validating_s <= 0.1 * self.clock.seconds()

    def _check(self, progress: float) -> None:
        self._settle(self._unsettled)
        began = self.clock.seconds()
        self._validated = self._validated or self._affordable(progress)
        is_new_epoch = self._is_new_epoch
        with self._average.in_place():
            self._validate_and_keep(progress)
        self._check_s = self.clock.seconds() - began
        self._validating_s += self._check_s
        if self.settings.averaging and is_new_epoch:
            self._average.observe(self.history[-1]["valid_loss"])

    def _validate_and_keep(self, progress: float) -> None:
        validation = self._validate(self._validated)
        self._read = validation.tokens
        self._plateau.observe(validation.loss, epoch=self._epoch)
        self.history.append(
            {
                "step": self.step,
                "tokens": self.tokens,
                "seconds": round(self.clock.seconds()),
                "valid_loss": validation.loss,
                "valid_bits_per_byte": validation.bits_per_byte,
            }
        )
        is_best = validation.loss < self.best
        self._without_gain = 0 if is_best else self._without_gain + 1
        log.info(
            "valid step=%d progress=%.3f loss=%.4f bits_per_byte=%.4f best=%s",
            self.step,
            progress,
            validation.loss,
            validation.bits_per_byte,
            is_best,
        )
        if is_best and self._keep(validation):
            self.best = validation.loss
        self._tell_history()

    def _keep(self, validation: Validation) -> bool:
        """Keep the checkpoint; False where it cannot be written: the one before stays whole, and the next may fit."""
        is_kept = True
        if distributed.rank() == 0:
            try:
                self._on_best(validation)
            except (OSError, CheckpointError) as error:
                log.error("cannot keep the checkpoint of step %d: %s", self.step, error)
                is_kept = False
        return bool(distributed.from_first([is_kept], self._device)[0])

    def _tell_history(self) -> None:
        """Leave the validations so far for whoever watches the run."""
        if distributed.rank() > 0:
            return
        lines = "".join(json.dumps(point) + "\n" for point in self.history)
        try:
            self._folder.with_name("history.jsonl").write_text(lines, encoding="utf-8")
        except OSError as error:
            log.error("cannot write the history at step %d: %s", self.step, error)

    def _is_hopeless(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self._without_gain >= patience

    def _on_signal(self, *_: object) -> None:
        self._stop = True

    def save(self) -> None:
        """Write everything that the next step depends on; where that fails, training goes on."""
        self._settle(self._unsettled)
        resume.save(self._folder, self._tensors(), self._facts(), self._device)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """What this process has to go on from; what all have alike, the first one's alone."""
        tensors = {f"state.{i}": x.contiguous() for i, x in enumerate(self._stepper.state)} | {
            "rng": torch.get_rng_state()
        }
        if self._device.type == "cuda":
            tensors["cuda_rng"] = torch.cuda.get_rng_state(self._device)
        if distributed.rank() == 0:
            tensors |= {f"model.{name}": x.contiguous() for name, x in self.model.state_dict().items()}
            tensors |= self._optimizer_tensors() | self._average.tensors()
        return tensors

    def _facts(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.clock.seconds(),
            "ended_minutes": self.clock.ended_minutes,
            "best": self.best,
            "history": self.history,
            "began": self._began,
            "validations": self._validations,
            "validated": self._validated,
            "validating_s": self._validating_s,
            "took_s": [self._step_s, self._check_s],
            "without_gain": self._without_gain,
            "plateau": [self._plateau.scale, self._plateau.best, self._plateau.bad, self._plateau.epoch],
            "average": self._average.state(),
            "batches": self._batches.state(),
            "world_size": distributed.world_size(),
        }

    def load(self) -> bool:
        """Go on from what `save` wrote; False if there is nothing. Raises CheckpointError where it is damaged."""
        folder = resume.saved_state(self._folder)
        if folder is None:
            return False
        facts, parts = resume.load(folder, self._device)
        try:
            self._take_up(facts, parts)
        except (RuntimeError, ValueError, KeyError) as error:
            raise resume.damaged(folder, error) from error
        return True

    def _take_up(self, facts: dict[str, Any], parts: list[dict[str, torch.Tensor]]) -> None:
        first, rank, ranks = parts[0], distributed.rank(), distributed.world_size()
        self._batches.load_state(facts["batches"])
        self.model.load_state_dict({k.removeprefix("model."): x for k, x in first.items() if k.startswith("model.")})
        self._load_optimizer(first)
        self._stepper.state = tuple(
            distributed.interleave([part[f"state.{i}"] for part in parts])[:, rank::ranks].contiguous()
            for i in range(len(self._stepper.state))
        )
        if len(parts) == ranks:  # among fewer or more, the noise of dropout is another anyway
            torch.set_rng_state(parts[rank]["rng"].cpu())
            if "cuda_rng" in parts[rank]:
                torch.cuda.set_rng_state(parts[rank]["cuda_rng"].cpu(), self._device)
        self.step, self.tokens, self.best, self.history = (
            facts["step"],
            facts["tokens"],
            facts["best"],
            facts["history"],
        )
        self.clock.elapsed_s += facts["seconds"]
        self.clock.ended_minutes = facts.get("ended_minutes")
        self._validations, self._without_gain = facts["validations"], facts["without_gain"]
        self._began, self._validated, self._validating_s = facts["began"], facts["validated"], facts["validating_s"]
        self._step_s, self._check_s = facts["took_s"]
        plateau = self._plateau
        plateau.scale, plateau.best, plateau.bad, plateau.epoch = facts["plateau"]
        self._average.load_state(facts["average"], first)

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        state, parameters = self._optimizer.state, self.model.parameters()
        return {f"optimizer.{i}.{key}": x for i, p in enumerate(parameters) for key, x in state.get(p, {}).items()}

    def _load_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        parameters = list(self.model.parameters())
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                self._optimizer.state[parameters[int(index)]][key] = tensor


def _optimizer(model: torch.nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(settings.beta1, settings.beta2), fused=True)


def _window_length(settings: LoopSettings, step: int) -> int:
    """How many tokens this window has: a function of seed and step alone, so that processes and resumed runs agree."""
    if not settings.variable_bptt:
        return settings.bptt
    rng = np.random.default_rng([settings.seed, step])
    base = settings.bptt if rng.random() < 0.95 else settings.bptt / 2
    return int(np.clip(round(rng.normal(base, 5)), 5, settings.bptt + 20))
