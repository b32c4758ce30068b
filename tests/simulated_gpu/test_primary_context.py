# SPDX-License-Identifier: Apache-2.0
"""Libraries on CUDA's runtime API refuse a GPU that is used through another context than theirs."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.errors import BackendError
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_context import CudaContext, load_module
from foveate.runtime.engines.primary_context import check_primary_context

pytestmark = pytest.mark.usefixtures("simulated")


class OtherContext(CudaContext):
    """A context of its own, as ``pycuda.autoinit`` creates one."""

    def _open(self) -> tuple[str, int]:
        architecture, _ = super()._open()
        driver: Any = load_module("cuda.bindings.driver")
        _, context = driver.cuCtxCreate(None, 0, 0)
        return architecture, int(context)


def test_the_primary_context_is_accepted(simulated: Simulation) -> None:
    device = CudaDevice()
    before = dict(simulated.contexts)
    assert check_primary_context(device, "PyTorch") == 0
    assert simulated.contexts == before


def test_another_context_is_refused_with_the_module_that_takes_the_primary_one() -> None:
    device = CudaDevice(context=OtherContext())
    with pytest.raises(BackendError) as caught:
        check_primary_context(device, "ONNX Runtime")
    assert str(caught.value) == (
        "ONNX Runtime uses the primary context of a GPU, and another one is current: import "
        "pycuda.autoprimaryctx in place of pycuda.autoinit, or use compiled engines: --backend tensorrt"
    )
