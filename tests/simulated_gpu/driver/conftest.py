# SPDX-License-Identifier: Apache-2.0
"""The driver as cuda-bindings calls it."""

from __future__ import annotations

import pytest
from tests.simulated_gpu.driver.raw import Raw
from tests.simulated_gpu.driver.simulation import Simulation


@pytest.fixture
def raw(simulated: Simulation) -> Raw:
    """Calls of the simulated driver."""
    pytest.importorskip("cuda.bindings.driver", reason="needs the package cuda-bindings")
    return Raw()
