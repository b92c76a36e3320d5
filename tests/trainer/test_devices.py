"""What the trainer does to the machine it is on."""

import platform
import subprocess
import sys

import pytest

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
