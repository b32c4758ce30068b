# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import os
import sys

import pytest

_status = [0]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    _status[0] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    # A run of the whole suite once crashed when the interpreter took its libraries down, with all
    # results told; that order says nothing of the code under test.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status[0])
