# SPDX-License-Identifier: Apache-2.0
"""The stage propose of a compiled bundle, as an engine on the simulated driver."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.samples.plans import RTX, TENSORRT, write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.bundle import Bundle
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import Engine
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with plans for any size, and for images of 96 x 64 and 8 windows."""
    bundle = small_bundle(tmp_path_factory.mktemp("compiled") / "small")
    write_plans(bundle)
    write_plans(bundle, image_sizes=((96, 64),))
    write_plans(bundle, installed=RTX)
    return bundle


@pytest.fixture
def trt(
    simulated: Simulation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[SimulatedTensorRT]:
    trt = SimulatedTensorRT(simulated)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    yield trt
    gc.collect()
    assert trt.destroyed_early == []


@pytest.fixture
def device(trt: SimulatedTensorRT) -> CudaDevice:
    return CudaDevice()


@pytest.fixture
def engine(compiled: Bundle, device: CudaDevice) -> Engine:
    return open_tensorrt_engines(compiled, device, "tensorrt")["propose"]
