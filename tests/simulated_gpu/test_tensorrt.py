# SPDX-License-Identifier: Apache-2.0
"""Engines of TensorRT on the real cuda-core, over the simulated driver and a simulated TensorRT."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tests.samples.plans import RTX, TENSORRT, write_library, write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import Context, SimulatedTensorRT
from tests.simulated_gpu.tensorrt import Engine as SimulatedEngine

from foveate.bundle import Bundle
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.errors import BackendError, BundleError, OptionError, OutOfMemoryError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import Engine
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import TensorRTEngine, open_tensorrt_engines
from foveate.system.private_files import cache_folder
from foveate.system.tensorrt_library import LoadedPlan

pytest.importorskip("cuda.core", reason="needs the package cuda-core")

FLOAT = np.dtype(np.float32)
Buffers = dict[str, Any]


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


@pytest.fixture
def device(trt: SimulatedTensorRT) -> CudaDevice:
    return CudaDevice()


@pytest.fixture
def engine(compiled: Bundle, device: CudaDevice) -> Engine:
    return open_tensorrt_engines(compiled, device, "tensorrt")["propose"]


def buffers_of(device: CudaDevice, engine: Engine, height: int, width: int) -> Buffers:
    """Allocate the image and the outputs of propose."""
    lengths = {"height": height, "width": width}
    return {
        one.name: device.allocate(
            tuple(side if isinstance(side, int) else eval(side, {}, lengths) for side in one.shape),  # noqa: S307
            FLOAT,
        )
        for one in (*engine.inputs, *engine.outputs)
    }


def write(simulation: Simulation, buffer: Any, values: np.ndarray) -> None:
    found = simulation.memory.bytes_at(buffer.address, values.nbytes, write=True)
    found.view(values.dtype).reshape(values.shape)[...] = values
    simulation.memory.take_accesses()  # it is not work of the GPU


def read(simulation: Simulation, buffer: Any) -> np.ndarray:
    size = int(np.prod(buffer.shape)) * buffer.dtype.itemsize
    found = simulation.memory.bytes_at(buffer.address, size, write=False)
    simulation.memory.take_accesses()
    return np.array(found.view(buffer.dtype).reshape(buffer.shape))


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, height, width)).astype(np.float32)


def expected(bundle: Bundle, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(
        bundle.stage_path("propose"), providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


# --- runs ------------------------------------------------------------------------------------


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
    assert simulated.live_bytes["device"] == taken + engine.bind_bytes(buffers)
    del runs
    gc.collect()
    assert len(trt.contexts) == 0
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
    largest = max(engine.bind_bytes(level) for level in levels)
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
    taken = sum(engine.bind_bytes(level) for level in levels)
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
    for run in [engine.bind(level, stream) for level, stream in pairs]:
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


# --- plans -----------------------------------------------------------------------------------


def test_a_plan_is_loaded_when_an_image_needs_it(
    compiled: Bundle, engine: TensorRTEngine, device: CudaDevice
) -> None:
    names = []
    for size in [(224, 256), (192, 208), (256, 256)]:
        engine.bind(buffers_of(device, engine, *size), device.stream())
        names.append([plan.stem for plan in engine._loaded])
    assert names == [["propose-96x64"], ["propose-96x64"], ["propose-96x64", "propose"]]


def test_a_plan_that_needs_plugins_is_loaded_after_their_library(
    compiled: Bundle, device: CudaDevice, trt: SimulatedTensorRT, tmp_path: Path
) -> None:
    bundle = small_bundle(tmp_path / "small")
    write_plans(bundle, with_plugins=True)
    write_library()
    engine = open_tensorrt_engines(bundle, device, "tensorrt")["refine"]
    buffers = {
        one.name: device.allocate((8, *map(int, one.shape[1:])), FLOAT)
        for one in (*engine.inputs, *engine.outputs)
    }
    run = engine.bind(buffers, device.stream())
    assert callable(run)

    trt.libraries.clear()
    engine = open_tensorrt_engines(bundle, device, "tensorrt")["refine"]
    with pytest.raises(BackendError) as caught:
        engine.bind(buffers, device.stream())
    assert str(caught.value) == (
        f"the plan {bundle.root}/engines/tensorrt/refine.plan cannot be loaded (Cannot find "
        "plugin, and no plugin library was loaded): run: foveate doctor"
    )


def test_kernels_that_tensorrt_for_rtx_compiles_are_kept(
    compiled: Bundle, simulated: Simulation, device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx = SimulatedTensorRT(simulated, rtx=True)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    monkeypatch.setattr(module, "find_runtime", lambda _: RTX)
    for _ in range(2):
        engine = open_tensorrt_engines(compiled, device, "tensorrt-rtx")["propose"]
        engine.bind(buffers_of(device, engine, 224, 256), device.stream())
        engine.close()
    assert rtx.kernels == [b"kernels"]  # loaded the second time

    (file,) = cache_folder("rtx").iterdir()
    file.chmod(0o666)
    engine = open_tensorrt_engines(compiled, device, "tensorrt-rtx")["propose"]
    engine.bind(buffers_of(device, engine, 224, 256), device.stream())
    assert rtx.kernels == [b"kernels"]  # others could have changed them


def test_a_version_compatible_plan_may_bring_its_own_runtime(
    device: CudaDevice, tmp_path: Path
) -> None:
    bundle = small_bundle(tmp_path / "small")
    write_plans(bundle, options={"version_compatible": True})
    engine = open_tensorrt_engines(bundle, device, "tensorrt")["propose"]
    assert callable(engine.bind(buffers_of(device, engine, 224, 256), device.stream()))


# --- errors ----------------------------------------------------------------------------------


def test_a_device_that_is_no_gpu_is_refused(compiled: Bundle) -> None:
    with pytest.raises(OptionError) as caught:
        open_tensorrt_engines(compiled, CpuDevice(), "tensorrt")
    assert str(caught.value) == (
        "the backend 'tensorrt' runs on a GPU, found the device 'cpu': use --device cuda, or "
        "--backend onnxruntime"
    )


def test_a_plan_of_another_gpu_is_not_opened(compiled: Bundle, monkeypatch: Any) -> None:
    with connected(Simulation("sm_90")) as other:
        monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(other))
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
        with pytest.raises(BackendError, match="was compiled for the GPU sm_75, found sm_90"):
            open_tensorrt_engines(compiled, CudaDevice(), "tensorrt")


def test_a_library_that_does_not_load_is_named(
    compiled: Bundle, device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ImportError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(BackendError) as caught:
        open_tensorrt_engines(compiled, device, "tensorrt")
    assert str(caught.value) == (
        "the module 'tensorrt' cannot be imported (libnvinfer.so.11: cannot open shared object "
        "file): run: pip install --force-reinstall 'foveate[tensorrt]'"
    )


def test_a_library_that_does_not_start_is_quoted(
    compiled: Bundle, device: CudaDevice, trt: SimulatedTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: SimulatedTensorRT, logger: Any) -> None:
        logger.log(trt.ILogger.INTERNAL_ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("factory function returned nullptr")

    monkeypatch.setattr(SimulatedTensorRT, "Runtime", start)
    with pytest.raises(BackendError) as caught:
        open_tensorrt_engines(compiled, device, "tensorrt")
    assert str(caught.value) == (
        "tensorrt does not start (CUDA initialization failure with error: 35; factory function "
        "returned nullptr): run: foveate doctor"
    )


def test_tensorrt_itself_refuses_a_plan_of_another_gpu(
    device: CudaDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = small_bundle(tmp_path / "small")
    write_plans(bundle, archs=("sm_90",))
    monkeypatch.setattr(EngineMetadata, "check_environment", lambda *_, **__: None)
    engine = open_tensorrt_engines(bundle, device, "tensorrt")["propose"]
    with pytest.raises(BackendError) as caught:
        engine.bind(buffers_of(device, engine, 224, 256), device.stream())
    assert caught.value.what == (
        f"the plan {bundle.root}/engines/tensorrt/propose.plan cannot be loaded (The engine plan "
        "file is generated on an incompatible device: sm_90)"
    )


def test_a_plan_that_is_gone_is_named(
    device: CudaDevice, tmp_path: Path, trt: SimulatedTensorRT
) -> None:
    bundle = small_bundle(tmp_path / "small")
    plan = write_plans(bundle)[0]
    engine = open_tensorrt_engines(bundle, device, "tensorrt")["propose"]
    plan.unlink()
    with pytest.raises(BundleError) as caught:
        engine.bind(buffers_of(device, engine, 224, 256), device.stream())
    assert str(caught.value) == (
        f"a plan cannot be read (No such file or directory): {plan}: compile it again"
    )


def test_a_plan_with_other_tensors_is_refused(
    compiled: Bundle, engine: TensorRTEngine, device: CudaDevice
) -> None:
    buffers = buffers_of(device, engine, 224, 256)
    engine.outputs = engine.outputs[:1]
    with pytest.raises(BundleError) as caught:
        engine.bind(buffers, device.stream())
    assert caught.value.what.endswith("vectors FLOAT, the manifest lists image FLOAT, scores FLOAT")
    assert caught.value.remedy == f"run: foveate compile {compiled.root} --target tensorrt"


@pytest.mark.parametrize(
    "text",
    [
        "Error Code 2: OutOfMemory (no further information)",
        "Requested amount of GPU memory (64 bytes) could not be allocated.",
        "CUDA error 2: out of memory",
    ],
)
def test_too_little_memory_is_an_error_of_its_own(
    text: str,
    engine: Engine,
    device: CudaDevice,
    trt: SimulatedTensorRT,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SimulatedEngine, "create_execution_context", lambda *_: trt.log(text))
    with pytest.raises(OutOfMemoryError) as caught:
        engine.bind(buffers_of(device, engine, 224, 256), device.stream())
    assert caught.value.what == f"the engine 'propose-96x64' has no further context ({text})"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"image": lambda image: image.view((1, 3, 2, 2), FLOAT)},
            "no compiled plan of the stage 'propose' takes image 1x3x2x2 (",
        ),
        (
            {"scores": lambda scores: scores.part(0, 1)},
            "the engine 'propose-96x64' refuses the address of scores (The address of scores is not",
        ),
    ],
)
def test_buffers_that_tensorrt_refuses_are_named(
    change: dict[str, Callable[[Any], Any]], text: str, engine: Engine, device: CudaDevice
) -> None:
    buffers = buffers_of(device, engine, 224, 256)
    for name, changed in change.items():
        buffers[name] = changed(buffers[name])
        if name == "scores":
            buffers[name].address += 4
    with pytest.raises(BackendError) as caught:
        engine.bind(buffers, device.stream())
    assert str(caught.value).startswith(text)


def test_a_run_that_tensorrt_refuses_is_an_error(
    engine: Engine, device: CudaDevice, trt: SimulatedTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine.bind(buffers_of(device, engine, 224, 256), device.stream())
    monkeypatch.setattr(Context, "execute_async_v3", lambda *_: False)
    trt.log("an earlier error")
    with pytest.raises(BackendError) as caught:
        run()
    assert str(caught.value) == (
        "the engine 'propose-96x64' cannot be enqueued (tensorrt gives no reason): run: foveate "
        "doctor"
    )


def test_a_profile_that_tensorrt_refuses_is_named(
    engine: Engine, device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise RuntimeError("Error in set optimization profile async.")

    monkeypatch.setattr(Context, "set_optimization_profile_async", refuse)
    with pytest.raises(BackendError) as caught:
        engine.bind(buffers_of(device, engine, 224, 256), device.stream())
    assert str(caught.value) == (
        "the engine 'propose-96x64' refuses its profile 1 (Error in set optimization profile "
        "async.): run: foveate doctor"
    )
