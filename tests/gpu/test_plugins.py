# SPDX-License-Identifier: Apache-2.0
"""The plugin library in a real TensorRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.errors import BackendError
from foveate.kernels.plugins.build import (
    build_library,
    find_architectures,
    find_headers,
    require_nvcc,
)
from foveate.runtime.devices.cuda import CudaDevice

pytestmark = pytest.mark.gpu


def test_tensorrt_loads_the_library_and_finds_both_creators(
    gpu: CudaDevice, tmp_path: Path
) -> None:
    trt = pytest.importorskip("tensorrt", reason="needs TensorRT")
    try:
        library = build_library(
            tmp_path / "libfoveate_plugins.so",
            architectures=find_architectures(),
            headers=find_headers(),
            nvcc=require_nvcc(),
        )
    except BackendError as error:
        pytest.skip(f"the library cannot be built here: {error.what}")
    registry = trt.get_plugin_registry()  # as engines do; that of a runtime is another one
    assert registry.load_library(str(library)) is not None
    for name in ("RoiMaxPool2d", "BilinearUpsample2d"):
        assert registry.get_creator(name, "1", "foveate") is not None
