# SPDX-License-Identifier: Apache-2.0
"""Faults of the driver at any call, and faults that are planted in the runtime.

Kernels are counted and not run.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from tests.runtime.devices.opened import simulated_gpu
from tests.samples.plans import TENSORRT
from tests.simulated_gpu.driver.faults import STICKY, Status
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.bundle import Bundle
from foveate.errors import FoveateError
from foveate.runtime.classifying import Classifying
from foveate.runtime.devices import cuda, cuda_program
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.device import Stream
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.features import Features
from foveate.runtime.options import PipelineOptions
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.proposing import Proposing
from foveate.runtime.slot import Slot

IMAGE = np.zeros((64, 96, 3), np.uint8)
STATUSES = (Status.OUT_OF_MEMORY, Status.INVALID_VALUE, Status.LAUNCH_FAILED)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CudaDevice, Simulation]]:
    monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
    with simulated_gpu("cuda") as (device, simulation):
        monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
        yield device, simulation


def open_pipeline(
    bundle: Bundle, device: CudaDevice, options: PipelineOptions | None = None
) -> Pipeline:
    engines = open_tensorrt_engines(bundle, device, "tensorrt")
    return Pipeline(bundle, engines, device=device, options=options)


# Faults of the driver ---------------------------------------------------------------------------
def run_with_fault(bundle: Bundle, status: Status, nth: int) -> bool:
    """Process images, of which one meets a fault at the nth call; return whether there was one."""
    with simulated_gpu("cuda") as (device, simulation):
        trt = SimulatedTensorRT(simulation)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "tensorrt", trt)
            pipeline = open_pipeline(bundle, device)
        fault = simulation.fail(status, nth=nth)
        errors = []
        for _ in range(3):
            try:
                pipeline(IMAGE)
            except FoveateError as error:
                errors.append(error)
        assert all(error.remedy for error in errors)
        reached = fault.left <= 0
        if status not in STICKY or not reached:
            pipeline(IMAGE)  # the pipeline goes on
            assert simulation.conflicts == []
        elif errors:
            with pytest.raises(FoveateError, match="restart the process"):
                pipeline(IMAGE)
        with suppress(FoveateError):
            pipeline.close()
        if status not in STICKY:
            device.close()
            assert set(simulation.live_bytes.values()) <= {0}
    return reached


def faults(count: int) -> list[tuple[Status, int]]:
    """Draw faults of calls among the first image's some 300 and those of later ones."""
    rng = random.Random(0)
    return [(rng.choice(STATUSES), rng.randint(1, 330)) for _ in range(count)]


@pytest.fixture
def plans_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)


@pytest.mark.usefixtures("plans_found")
@pytest.mark.parametrize(("status", "nth"), faults(24))
def test_a_fault_at_any_call_is_an_error_with_a_remedy_and_leaks_nothing(
    compiled: Bundle, status: Status, nth: int
) -> None:
    run_with_fault(compiled, status, nth)


@pytest.mark.slow
@pytest.mark.usefixtures("plans_found")
def test_200_faults_are_errors_with_a_remedy_and_leak_nothing(compiled: Bundle) -> None:
    assert sum(run_with_fault(compiled, *fault) for fault in faults(200)) > 150


# Planted faults ---------------------------------------------------------------------------------
def problems(
    bundle: Bundle,
    device: CudaDevice,
    simulation: Simulation,
    options: PipelineOptions | None = None,
) -> set[str]:
    """Return what is wrong with a pipeline that processes some images."""
    found = set()
    with open_pipeline(bundle, device, options) as pipeline:
        list(pipeline.stream([IMAGE] * 4))
        start = len(simulation.calls)
        pipeline(IMAGE)
        calls = simulation.calls_since(start)
    if calls.total() > 5:
        found.add("calls")
    if calls["cuGraphLaunch"] != 1:
        found.add("no graph")
    if calls["cuEventSynchronize"] != 1:
        found.add("waits")
    if simulation.conflicts:
        found.add("order")
    if any(simulation.live_bytes.values()):
        found.add("leak")
    return found


def test_a_pipeline_without_faults_has_no_problems(
    compiled: Bundle, gpu: tuple[CudaDevice, Simulation]
) -> None:
    assert problems(compiled, *gpu) == set()


def test_levels_that_run_at_the_same_time_have_no_problems(
    compiled: Bundle, gpu: tuple[CudaDevice, Simulation]
) -> None:
    assert problems(compiled, *gpu, PipelineOptions(parallel_levels=True)) == set()


def test_levels_at_the_same_time_would_need_memory_of_their_own(
    compiled: Bundle, gpu: tuple[CudaDevice, Simulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Proposing, "_allocate_grids", shared_grids(Proposing._allocate_grids))
    assert "order" in problems(compiled, *gpu, PipelineOptions(parallel_levels=True))


def shared_grids(allocate: Callable[..., Any]) -> Callable[..., Any]:
    """Let the outputs of all levels lie in the memory of the largest."""

    def shared(steps: Proposing, spec: Any) -> Any:
        grids = allocate(steps, spec)
        largest = max(grids, key=lambda grid: int(np.prod(grid.shape)))
        return [largest.view(grid.shape, grid.dtype) for grid in grids]

    return shared


def forgotten_join(patch: pytest.MonkeyPatch) -> None:
    enqueue = Classifying.enqueue

    def forgetful(steps: Classifying) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(steps._main, "wait", lambda _: None)
            enqueue(steps)

    patch.setattr(Classifying, "enqueue", forgetful)


def wait_inside(patch: pytest.MonkeyPatch) -> None:
    enqueue = Proposing.enqueue

    def waiting(steps: Proposing, *after: Any) -> None:
        enqueue(steps, *after)
        steps._stream.synchronize()

    patch.setattr(Proposing, "enqueue", waiting)


def pageable_staging(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cuda, "pinned_array", lambda _, shape, dtype: np.zeros(shape, dtype))


def allocation_in_a_launch(patch: pytest.MonkeyPatch) -> None:
    def empty(scratch: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        return scratch._device.allocate(shape, np.dtype(dtype))

    patch.setattr(cuda_program.Scratch, "empty", empty)


def slot_reused_too_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "synchronize", lambda _: None)


def features_on_a_stream_that_is_not_joined(patch: pytest.MonkeyPatch) -> None:
    enqueue = Features.enqueue
    streams = []

    def astray(steps: Features, stream: Stream) -> None:
        enqueue(steps, stream)
        streams.append(steps._side)
        steps._side = steps._setup.device.stream()

    patch.setattr(Features, "enqueue", astray)


def features_before_the_maps_that_they_read(patch: pytest.MonkeyPatch) -> None:
    enqueue = Features.enqueue

    def early(steps: Features, stream: Stream) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(steps._side, "wait", lambda _: None)
            enqueue(steps, stream)

    patch.setattr(Features, "enqueue", early)


@pytest.mark.parametrize(
    "plant",
    [
        forgotten_join,
        wait_inside,
        pageable_staging,
        allocation_in_a_launch,
        slot_reused_too_early,
        features_on_a_stream_that_is_not_joined,
        features_before_the_maps_that_they_read,
    ],
)
def test_a_planted_fault_is_found(
    compiled: Bundle,
    gpu: tuple[CudaDevice, Simulation],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    plant: Callable[[pytest.MonkeyPatch], None],
) -> None:
    plant(monkeypatch)
    with caplog.at_level(logging.CRITICAL):
        try:
            found = problems(compiled, *gpu)
        except (FoveateError, AssertionError) as error:
            found = {str(error)}
    assert found
