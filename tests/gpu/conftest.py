# SPDX-License-Identifier: Apache-2.0
"""The GPU, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from foveate.errors import BackendError
from foveate.kernels.compilers import choose_compiler
from foveate.runtime.devices.cuda import CudaDevice


@pytest.fixture(scope="session")
def gpu() -> Iterator[CudaDevice]:
    """The first GPU."""
    try:
        device = CudaDevice()
        choose_compiler("cubin", device.architecture)
    except BackendError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error.what}")
    yield device
    device.close()
