# SPDX-License-Identifier: Apache-2.0
"""The CPU touches page-locked memory only while no work of the GPU may do so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.runtime.devices.opened import simulated_gpu
from tests.samples.plans import TENSORRT
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.driver.watched import Watched
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.bundle import Bundle
from foveate.runtime.devices import cuda
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_memory import pinned_array
from foveate.runtime.devices.cuda_streams import CudaEvent
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.slot import Slot


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CudaDevice, Simulation]]:
    """A GPU whose page-locked memory is watched."""

    def watched(*arguments: Any) -> Watched:
        return pinned_array(*arguments).view(Watched)

    monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
    monkeypatch.setattr(cuda, "pinned_array", watched)
    with simulated_gpu("cuda") as (device, simulation):
        monkeypatch.setattr(Watched, "simulation", simulation, raising=False)
        monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
        yield device, simulation


def conflicts(bundle: Bundle, device: CudaDevice, simulation: Simulation) -> set[str]:
    """Process some images; return the first words of the pieces of work in conflict."""
    with Pipeline(
        bundle, open_tensorrt_engines(bundle, device, "tensorrt"), device=device
    ) as pipeline:
        list(pipeline.stream([np.zeros((64, 96, 3), np.uint8)] * 6))
    assert any(task.kind == "CPU" for task in simulation.streams.history)
    return {text.split()[0] for one in simulation.conflicts for text in (one.first, one.second)}


def test_images_and_results_are_touched_after_a_wait(
    compiled: Bundle, gpu: tuple[CudaDevice, Simulation]
) -> None:
    assert conflicts(compiled, *gpu) == set()


def results_read_before_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CudaEvent, "synchronize", lambda _: None)


def staging_written_before_it_is_copied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "synchronize", lambda _: None)


@pytest.mark.parametrize(
    "plant", [results_read_before_the_end, staging_written_before_it_is_copied]
)
def test_an_access_without_a_wait_is_reported(
    compiled: Bundle,
    gpu: tuple[CudaDevice, Simulation],
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
) -> None:
    plant(monkeypatch)
    assert "CPU" in conflicts(compiled, *gpu)
