"""The language models, one file a paper, and the registry that builds them by name.

Models are written for one device and know nothing of files, training loops or sampling.
"""

from typing import Any

from ..errors import CheckpointError
from .awd_lstm import AWDLSTM, AWDLSTMConfig
from .lstm import LSTM, LSTMConfig
from .mogrifier import Mogrifier, MogrifierConfig
from .protocol import GateWeights, Hidden, LanguageModel, LayerWeights, RecurrentWeights, State, detach_state
from .transformer import Transformer, TransformerConfig

ARCHITECTURES: dict[str, tuple[type[Any], type[Any]]] = {
    "awd_lstm": (AWDLSTMConfig, AWDLSTM),
    "lstm": (LSTMConfig, LSTM),
    "mogrifier": (MogrifierConfig, Mogrifier),
    "transformer": (TransformerConfig, Transformer),
}


def build_model(architecture: str, config: dict[str, Any]) -> Any:
    """Make a freshly initialised model. Raises CheckpointError on an unknown architecture or a wrong config."""
    if architecture not in ARCHITECTURES:
        raise CheckpointError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    config_class, model_class = ARCHITECTURES[architecture]
    try:
        return model_class(config_class(**config))
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]  # PyTorch's own errors go on with its call stack
        raise CheckpointError(f"the config of {architecture} does not fit: {reason or type(error).__name__}") from error


__all__ = [
    "ARCHITECTURES",
    "GateWeights",
    "Hidden",
    "LanguageModel",
    "LayerWeights",
    "RecurrentWeights",
    "State",
    "build_model",
    "detach_state",
]
