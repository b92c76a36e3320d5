"""The devices that a model can be trained and measured on."""

import ctypes

import torch

from core.errors import ConfigError, InputError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST = 2**31 - 1  # bytes


def find_device(name: str) -> torch.device:
    """The device of a name such as `cpu` or `cuda`. Raises InputError if this machine or this PyTorch has none."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device must be one that is here and that this PyTorch can use, got {name!r}") from error
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, where the GPU has it
    return device


def choose_arithmetic(device: torch.device, *, bfloat16: bool | None, int8: bool | None) -> tuple[bool, bool]:
    """Whether to train with matrix products in bfloat16, and in int8 where there are such; None is what is fast here.

    Raises ConfigError for int8 on a GPU, where nothing of it is written.
    """
    if int8 is None:  # who wants no bfloat16 wants nothing coarser
        int8 = bfloat16 is not False and device.type == "cpu" and torch.cpu._is_vnni_supported()
    if bfloat16 is None:
        bfloat16 = _has_fast_bfloat16(device)
    if int8 and device.type != "cpu":
        raise ConfigError(f"int8 is for training on the CPU; expected --device cpu or --no-int8, got --device {device}")
    return bfloat16, int8


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 gain time here: elsewhere they are emulated, and lose it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    on_cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and bool(on_cpu)


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next step, instead of handing it back and faulting it in again.

    A step allocates and frees the same hundred megabytes each time: without this, 13,000 page faults and a tenth of the
    step's time. Where the C library is another one, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    if mallopt(_MMAP_THRESHOLD, _LARGEST) == 1:  # or the other would fix the threshold where it is, at 128 KiB
        mallopt(_TRIM_THRESHOLD, _LARGEST)
