# SPDX-License-Identifier: Apache-2.0
"""Runs of engines of TensorRT on the real cuda-core, over the simulated driver."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.plans.buffers import (
    Buffers,
    buffers_of,
    expected,
    random_image,
    read,
    write,
)
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.bundle import Bundle
from foveate.errors import BackendError
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import Engine
from foveate.runtime.engines.tensorrt import TensorRTEngine
from foveate.system.tensorrt_library import LoadedPlan

pytest.importorskip("cuda.core", reason="needs the package cuda-core")


def working_bytes(engine: Any, buffers: Buffers) -> int:
    plan, profile = engine._find(buffers)
    size: int = plan.memory_bytes(profile)
    return size


def test_a_stage_computes_what_onnx_runtime_does(
    compiled: Bundle, engine: Engine, device: CudaDevice, simulated: Simulation
) -> None:
    stream, image = device.stream(), random_image(224, 256)
    buffers = buffers_of(device, engine, 224, 256)
    write(simulated, buffers["image"], image)
    run = engine.bind(buffers, stream)
    for _ in range(2):
        run()
        stream.synchronize()
        for name, result in expected(compiled, image).items():
            np.testing.assert_allclose(read(simulated, buffers[name]), result, rtol=0, atol=1e-4)


def test_a_run_is_recorded_after_it_has_run(
    compiled: Bundle, engine: Engine, device: CudaDevice, simulated: Simulation
) -> None:
    stream, buffers = device.stream(), buffers_of(device, engine, 224, 256)
    run = engine.bind(buffers, stream)
    program = device.program([stream], run, capturable=engine.capturable)
    for seed in range(3):
        image = random_image(224, 256, seed)
        write(simulated, buffers["image"], image)
        start = len(simulated.calls)
        program.launch().synchronize()
        scores = expected(compiled, image)["scores"]
        np.testing.assert_allclose(read(simulated, buffers["scores"]), scores, rtol=0, atol=1e-4)
    calls = simulated.calls_since(start)
    assert set(calls) == {"cuGraphLaunch", "cuEventRecord", "cuEventSynchronize"}


def test_a_first_run_cannot_be_recorded(
    engine: Engine, device: CudaDevice, simulated: Simulation
) -> None:
    stream = device.stream()
    run = engine.bind(buffers_of(device, engine, 224, 256), stream)
    device.context.begin_capture(stream.handle)
    with pytest.raises(BackendError, match="not permitted when stream is capturing"):
        run()


def test_each_binding_has_a_context_which_lives_as_long_as_its_run(
    engine: Engine, device: CudaDevice, trt: SimulatedTensorRT, simulated: Simulation
) -> None:
    before = simulated.live_bytes["device"]
    stream, buffers = device.stream(), buffers_of(device, engine, 224, 256)
    taken = simulated.live_bytes["device"]
    runs = [engine.bind(buffers, stream) for _ in range(3)]
    assert len(trt.contexts) == 3
    assert simulated.live_bytes["device"] == taken + working_bytes(engine, buffers)
    del runs
    gc.collect()
    assert len(trt.contexts) == 0
    engine.close()  # which releases the memory of streams that are still alive
    device.context.collect()
    device.memory_stream.synchronize()
    assert simulated.live_bytes["device"] == taken
    del stream, buffers
    gc.collect()
    device.context.collect()
    device.memory_stream.synchronize()
    assert simulated.live_bytes["device"] == before


def test_levels_on_one_stream_share_memory_and_are_ordered(
    compiled: Bundle, engine: Engine, device: CudaDevice, simulated: Simulation
) -> None:
    stream = device.stream()
    sizes = [(224, 256), (192, 208)]
    levels = [buffers_of(device, engine, *size) for size in sizes]
    before = simulated.live_bytes["device"]
    images = [random_image(*size, seed) for seed, size in enumerate(sizes)]
    for level, image in zip(levels, images, strict=True):
        write(simulated, level["image"], image)
    runs = [engine.bind(level, stream) for level in levels]
    largest = max(working_bytes(engine, level) for level in levels)
    assert simulated.live_bytes["device"] == before + largest
    for run in runs:
        run()
    stream.synchronize()
    assert simulated.conflicts == []
    for level, image in zip(levels, images, strict=True):
        scores = expected(compiled, image)["scores"]
        np.testing.assert_allclose(read(simulated, level["scores"]), scores, rtol=0, atol=1e-4)


def test_a_larger_level_takes_larger_memory_and_leaves_the_other_its_own(
    compiled: Bundle, engine: Engine, device: CudaDevice, simulated: Simulation
) -> None:
    stream, image = device.stream(), random_image(192, 208)
    levels = [buffers_of(device, engine, *size) for size in [(192, 208), (224, 256)]]
    before = simulated.live_bytes["device"]
    write(simulated, levels[0]["image"], image)
    runs = [engine.bind(level, stream) for level in levels]
    device.context.collect()
    device.memory_stream.synchronize()
    taken = sum(working_bytes(engine, level) for level in levels)
    assert simulated.live_bytes["device"] == before + taken
    for run in runs:
        run()
    stream.synchronize()
    scores = expected(compiled, image)["scores"]
    np.testing.assert_allclose(read(simulated, levels[0]["scores"]), scores, rtol=0, atol=1e-4)


def run_on_two_streams(engine: Engine, device: CudaDevice) -> None:
    streams, sizes = [device.stream(), device.stream()], [(224, 256), (192, 208)]
    levels = [buffers_of(device, engine, *size) for size in sizes]
    pairs = zip(levels, streams, strict=True)
    runs = [engine.bind(level, stream) for level, stream in pairs]
    for run in runs:
        run()
    for stream in streams:
        stream.synchronize()


def test_levels_on_two_streams_share_nothing(
    engine: Engine, device: CudaDevice, simulated: Simulation
) -> None:
    run_on_two_streams(engine, device)
    assert simulated.conflicts == []


def test_memory_that_two_streams_shared_would_be_found(
    engine: Engine, device: CudaDevice, simulated: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = device.allocate((1 << 22,), np.dtype(np.uint8))
    monkeypatch.setattr(TensorRTEngine, "_take_memory", lambda *_: memory)
    run_on_two_streams(engine, device)
    assert simulated.conflicts


def test_a_context_that_two_levels_shared_would_be_found(
    compiled: Bundle,
    engine: Engine,
    device: CudaDevice,
    simulated: Simulation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = LoadedPlan.new_context
    shared: list[Any] = []

    def new_context(self: LoadedPlan) -> Any:
        shared[:] = shared or [new(self)]
        return shared[0]

    monkeypatch.setattr(LoadedPlan, "new_context", new_context)
    with pytest.raises(AssertionError):
        test_levels_on_one_stream_share_memory_and_are_ordered(compiled, engine, device, simulated)
