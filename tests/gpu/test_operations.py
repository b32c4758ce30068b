# SPDX-License-Identifier: Apache-2.0
"""The kernels of the plugins on a GPU; the self-test has the operations of the runtime."""

from __future__ import annotations

import numpy as np
import pytest
from tests.gpu.operations import CASES, assert_right

from foveate.runtime.devices.cuda import CudaDevice
from foveate.selftest import cases

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("case", sorted(CASES.keys() - cases.CASES.keys()))
@pytest.mark.parametrize("scale", [1, 3, 8])
def test_kernels_of_plugins_give_the_results_of_the_reference(
    gpu: CudaDevice, case: str, scale: int
) -> None:
    assert_right(gpu, CASES[case](np.random.default_rng(scale), scale))
