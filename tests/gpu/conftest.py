# SPDX-License-Identifier: Apache-2.0
"""The GPU, or the reason why there is none, and one report of all tests on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from foveate.errors import BackendError
from foveate.kernels.compilers import choose_compiler
from foveate.runtime.devices.cuda import CudaDevice
from foveate.selftest.supervision import StepResult, report_of


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


@pytest.fixture(scope="session")
def report(gpu: CudaDevice, pytestconfig: pytest.Config) -> Iterator[list[StepResult]]:
    """Results of steps; all of them become one file at the end."""
    results: list[StepResult] = []
    yield results
    path: Path = pytestconfig.rootpath / "gpu-report" / f"{gpu.architecture}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report_of(results), indent=1) + "\n", encoding="utf-8")
    _written.append(path)


_written: list[Path] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for path in _written:
        terminalreporter.write_line(f"report of the GPU: {path}")
