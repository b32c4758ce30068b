# SPDX-License-Identifier: Apache-2.0
"""Every source of kernels for every architecture, for tests of what the compilers make of it."""

from __future__ import annotations

import pytest

from foveate.kernels.build import ARCHITECTURES, find_nvcc
from foveate.kernels.launches import SOURCES

# The oldest, one of the middle and the newest are compiled in every run; all of them in the slow one.
USUAL = ("sm_75", "sm_89", "sm_120")

needs_nvcc = pytest.mark.skipif(find_nvcc() is None, reason="needs nvcc of a CUDA toolkit")

MATRIX = [
    pytest.param(
        source,
        architecture,
        marks=[] if architecture in USUAL else pytest.mark.slow,
        id=f"{source.stem}-{architecture}",
    )
    for source in SOURCES
    for architecture in ARCHITECTURES
]
