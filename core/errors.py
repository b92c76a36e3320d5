"""Every error that input can cause, one small tree. Callers catch by meaning; each border translates once.

FablewrightError
├── ConfigError         config.toml or an override is wrong
├── InputError          a request is wrong; `field` names the part at fault
├── CheckpointError     a checkpoint is missing, damaged or does not fit this code
├── CorpusError         training or evaluation text cannot be used
├── BusyError           the queue is full; try again later
├── ClosedError         the engine is shutting down
├── GenerationError     one stream failed; the others go on
└── StoreError          the database cannot be reached, read or written

`code` is stable and for programs; the message is fit to show to a user: what was expected, what came, where.
"""


class FablewrightError(Exception):
    """The root of the tree."""

    code = "error"


class ConfigError(FablewrightError):
    """config.toml or an override is wrong."""

    code = "invalid_config"


class InputError(FablewrightError):
    """A request is wrong; `field` names the part at fault, where one is."""

    code = "invalid_request"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class CheckpointError(FablewrightError):
    """A checkpoint is missing, damaged or does not fit this code."""

    code = "invalid_checkpoint"


class CorpusError(FablewrightError):
    """Training or evaluation text cannot be used."""

    code = "invalid_corpus"


class BusyError(FablewrightError):
    """The queue is full; try again later."""

    code = "busy"


class ClosedError(FablewrightError):
    """The engine is shutting down."""

    code = "closed"


class GenerationError(FablewrightError):
    """One stream failed; the others go on."""

    code = "generation_failed"


class StoreError(FablewrightError):
    """The database cannot be reached, read or written."""

    code = "store_unavailable"
