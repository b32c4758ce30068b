# SPDX-License-Identifier: Apache-2.0
"""Capsules of DLPack in a process that ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
from foveate.system import dlpack

class Shared:
    def __init__(self):
        self.array = np.arange(12, dtype=np.float32)
    def __dlpack_device__(self):
        return 1, 0
    def __dlpack__(self, **_):
        array = self.array
        return dlpack.write(array.ctypes.data, array.shape, array.dtype, (1, 0), self)
"""


@pytest.mark.parametrize("kept", ["np.from_dlpack(Shared())", "Shared().__dlpack__()"])
def test_an_array_may_outlive_the_modules_at_the_end_of_a_process(kept: str) -> None:
    # NumPy is imported first, so that its names are cleared last.
    script = f"{SCRIPT}\nnp.kept = {kept}\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
