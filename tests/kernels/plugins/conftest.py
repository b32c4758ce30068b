# SPDX-License-Identifier: Apache-2.0
"""The plugin library, loaded by what stands for TensorRT."""

from __future__ import annotations

import pytest
from tests.kernels.plugins.mock_host import host as mock


@pytest.fixture(scope="session")
def _loaded() -> mock.Library:
    return mock.Library(mock.compile_device_library())


@pytest.fixture
def library(_loaded: mock.Library) -> mock.Library:
    """What users build; nothing is logged yet."""
    _loaded.log()
    return _loaded


@pytest.fixture(scope="session")
def running() -> mock.Library:
    """The same plugins with kernels that run on the CPU."""
    return mock.Library(mock.compile_host_library())
