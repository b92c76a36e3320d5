"""What the trainer does to the machine it is on."""

import platform
import subprocess
import sys

import pytest
import torch

from core.errors import ConfigError
from trainer.devices import choose_arithmetic

CPU = torch.device("cpu")

FAULTS = """
import resource, sys, torch
from trainer.devices import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for round in range(40):
    if round == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.zeros(size << 20, dtype=torch.uint8) for size in (3, 40, 7)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps or returns memory as it likes")
def test_memory_that_was_freed_is_not_faulted_in_again() -> None:
    faults = {kind: int(subprocess.check_output([sys.executable, "-c", FAULTS, kind])) for kind in ("returned", "kept")}
    assert faults["kept"] < 100 < faults["returned"]


def test_int8_is_for_processors_that_multiply_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda has=has: has)
        assert choose_arithmetic(CPU, bfloat16=True, int8=None) == (True, has)
        assert choose_arithmetic(CPU, bfloat16=None, int8=None)[1] == has
        assert choose_arithmetic(CPU, bfloat16=False, int8=None) == (False, False)
        assert choose_arithmetic(CPU, bfloat16=False, int8=True) == (False, True)
    assert choose_arithmetic(torch.device("cuda"), bfloat16=True, int8=None) == (True, False)


def test_int8_on_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected --device cpu or --no-int8, got --device cuda:1"):
        choose_arithmetic(torch.device("cuda:1"), bfloat16=True, int8=True)
