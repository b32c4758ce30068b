# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the plugin library, loaded by the mock host."""

from __future__ import annotations

import pytest
from tests.kernels.plugins.mock_host import host as mock


@pytest.fixture(scope="session")
def _loaded() -> mock.Library:
    return mock.Library(mock.compile_device_library())


@pytest.fixture
def library(_loaded: mock.Library) -> mock.Library:
    """Return the library that users build, with an empty log."""
    _loaded.log()
    return _loaded


@pytest.fixture(scope="session")
def running() -> mock.Library:
    """Return the same plugins, with kernels that run on the CPU."""
    return mock.Library(mock.compile_host_library())
