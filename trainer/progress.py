"""What a run shows while it works: a progress bar on the terminal, and TensorBoard's curves where they are wanted."""

import math
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Progress:
    """Called with the facts of every step."""

    def __init__(self, *, is_shown: bool, tensorboard: Path | None = None) -> None:
        layout = "{l_bar}{bar:20} {postfix}"
        self._bar = tqdm(total=1000, disable=not is_shown, mininterval=5, file=sys.stderr, bar_format=layout)
        self._mean: float | None = None
        self._began: tuple[float, float] | None = None
        self._writer: Any = None
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(tensorboard))

    def __call__(self, facts: dict[str, float]) -> None:
        """Show one step."""
        loss, seconds, tokens = facts["loss"], facts["seconds"], facts["tokens"]
        self._mean = loss if self._mean is None else 0.98 * self._mean + 0.02 * loss
        self._began = self._began or (seconds, tokens)
        rate = (tokens - self._began[1]) / max(1e-9, seconds - self._began[0])
        left = seconds / max(1e-9, facts["progress"]) - seconds
        self._bar.n = int(1000 * facts["progress"])
        self._bar.set_postfix_str(
            f"step {facts['step']:.0f} {rate:,.0f} tokens/s loss {self._mean:.3f} ppl {math.exp(self._mean):.1f} "
            f"lr {facts['lr']:.1e} norm {facts['norm']:.2f} cell {facts['cell']:.0f} left {left / 60:.0f} min",
            refresh=False,
        )
        self._bar.update(0)
        if self._writer is not None and facts["step"] % 10 == 0:
            for name in ("loss", "lr", "norm", "cell"):
                self._writer.add_scalar(name, facts[name], int(facts["step"]))

    def close(self) -> None:
        """Leave the terminal and the log files in order."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()
