# SPDX-License-Identifier: Apache-2.0
"""Compilers of kernels, or the reason why a test is skipped without one."""

from __future__ import annotations

import pytest

from foveate.errors import BackendError
from foveate.kernels.compilers import choose_compiler, find_nvcc

needs_nvcc = pytest.mark.skipif(find_nvcc() is None, reason="needs nvcc of a CUDA toolkit")


def require_compiler() -> None:
    """Skip the test where neither NVRTC, which is a package, nor nvcc compiles kernels."""
    try:
        choose_compiler("ptx", "sm_75")
    except BackendError:
        pytest.skip("needs the packages cuda-bindings and nvidia-cuda-nvrtc, or nvcc")


def require_nvcc() -> None:
    """Skip the test where there is no nvcc: our snippets are compiled with its line numbers."""
    if find_nvcc() is None:
        pytest.skip("needs nvcc of a CUDA toolkit")
