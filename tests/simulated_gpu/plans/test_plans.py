# SPDX-License-Identifier: Apache-2.0
"""Plans of TensorRT: when they are loaded, and what is refused."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.samples.plans import RTX, TENSORRT, write_library, write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.plans.buffers import FLOAT, buffers_of
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
from foveate.system import tensorrt
from foveate.system.private_files import cache_folder

pytest.importorskip("cuda.core", reason="needs the package cuda-core")


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


def test_two_threads_load_the_plugin_library_once(
    device: CudaDevice, trt: SimulatedTensorRT, tmp_path: Path
) -> None:
    bundle = small_bundle(tmp_path / "small")
    write_plans(bundle, with_plugins=True)
    write_library()

    def open_engines(_: int) -> int:
        device.context.use()
        return len(open_tensorrt_engines(bundle, device, "tensorrt"))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(open_engines, range(4))) == [4] * 4


def test_an_error_is_quoted_after_the_first_pipeline_is_gone(
    compiled: Bundle, device: CudaDevice, trt: SimulatedTensorRT
) -> None:
    first = open_tensorrt_engines(compiled, device, "tensorrt")
    second = open_tensorrt_engines(compiled, device, "tensorrt")["propose"]
    first.clear()
    gc.collect()
    trt.simulation.architecture = "sm_90"  # the plan was copied from another machine
    with pytest.raises(BackendError, match="generated on an incompatible device: sm_75"):
        second.bind(buffers_of(device, second, 224, 256), device.stream())


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


def test_a_library_for_a_later_cuda_than_the_driver_is_not_started(
    compiled: Bundle, device: CudaDevice, trt: SimulatedTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "driver_version", lambda: (12, 8))
    with pytest.raises(BackendError) as caught:
        open_tensorrt_engines(compiled, device, "tensorrt")
    assert str(caught.value) == (
        "tensorrt 11.4.0 is for CUDA 13, and the driver supports CUDA 12.8 at most: update the "
        "driver, or install tensorrt-cu12 in place of it"
    )
    assert trt.logger is None


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
