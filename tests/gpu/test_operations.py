# SPDX-License-Identifier: Apache-2.0
"""Every operation on a GPU: what it gives, and how its time compares with the prediction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.gpu.operations import CASES, assert_right
from tests.gpu.timing import copy_bandwidth, time_operations

from foveate.runtime.devices.cuda import CudaDevice

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [1, 3, 8])
def test_operations_give_what_the_host_gives(gpu: CudaDevice, case: str, scale: int) -> None:
    assert_right(gpu, CASES[case](np.random.default_rng(scale), scale))


def test_times_are_reported_beside_the_predictions(
    gpu: CudaDevice, request: pytest.FixtureRequest
) -> None:
    """Nothing is asserted of the times: they go to a file, and the terminal names it."""
    bandwidth = copy_bandwidth(gpu)
    report = {
        "architecture": gpu.architecture,
        "copy_bytes_per_second": bandwidth,
        "operations": time_operations(gpu, bandwidth),
    }
    folder: Path = request.config.rootpath / "gpu-report"
    folder.mkdir(exist_ok=True)
    path = folder / f"{gpu.architecture}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"times of the kernels: {path}")  # noqa: T201 - where to look
    assert bandwidth > 0
