# SPDX-License-Identifier: Apache-2.0
"""The engine of ONNX Runtime for CUDA on the simulated driver, with a stand-in for its sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.sessions import simulate_sessions

from foveate.errors import BackendError, OutOfMemoryError
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import onnxruntime_cuda
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine

FLOAT = np.dtype(np.float32)
ROWS = 4
CHECK_CUDNN = onnxruntime_cuda.check_cudnn  # before a fixture replaces it


class Stage:
    """The stage refine of the contrast bundle on a simulated GPU, with its memory and its results.

    Args:
        device: The GPU.
        engine: Engine of the stage.
        seed: Seed of the inputs.
    """

    def __init__(self, device: CudaDevice, engine: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.main = device.stream()
        shapes = {spec.name: (ROWS, *spec.shape[1:]) for spec in engine.inputs}
        self.inputs = {name: device.mirror(shape, FLOAT) for name, shape in shapes.items()}
        for one in self.inputs.values():
            one.array[...] = rng.random(one.array.shape)
        self.logits = device.mirror((ROWS, 160, 160), FLOAT)
        bound = {name: one.buffer for name, one in self.inputs.items()}
        self.run = engine.bind({**bound, "logits": self.logits.buffer}, self.main)

    def enqueue(self) -> None:
        for one in self.inputs.values():
            one.send(self.main)
        self.run()
        self.logits.fetch(self.main)

    def expected(self, path: Path) -> Any:
        cpu = OnnxRuntimeEngine(path, threads=1)
        logits = np.empty_like(self.logits.array)
        cpu.run({name: one.array for name, one in self.inputs.items()}, {"logits": logits})
        return logits


@pytest.fixture
def path(contrast_bundle: Path) -> Path:
    return contrast_bundle / "refine.onnx"


@pytest.fixture
def device(simulated: Simulation, monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    simulate_sessions(monkeypatch, simulated)
    return CudaDevice()


@pytest.mark.parametrize("tensorrt", [False, True])
def test_a_run_reads_and_writes_the_memory_of_the_gpu(
    device: CudaDevice, simulated: Simulation, path: Path, tensorrt: bool
) -> None:
    engine = OnnxRuntimeCudaEngine(path, device.stream(), tensorrt=tensorrt)
    stage = Stage(device, engine, seed=1)
    start = len(simulated.streams.history)
    stage.enqueue()
    stage.main.synchronize()
    np.testing.assert_array_equal(stage.logits.array, stage.expected(path))
    moved = sum(one.array.nbytes for one in stage.inputs.values())
    # Nothing but the test itself copies.
    assert simulated.bytes_copied(start) == {"HtoD": moved, "DtoH": stage.logits.array.nbytes}
    assert simulated.conflicts == []


def test_a_machine_without_cudnn_is_refused_before_the_first_image(
    device: CudaDevice, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "check_cudnn", CHECK_CUDNN)
    monkeypatch.setattr(onnxruntime_cuda, "_CUDNN", "libmissing.so.9")
    with pytest.raises(BackendError) as caught:
        OnnxRuntimeCudaEngine(path, device.stream())
    start = "CUDAExecutionProvider does not start here (libmissing.so.9: cannot open shared object"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("run: pip install 'onnxruntime-gpu[cuda,cudnn]'")


def test_a_session_computes_in_whole_float32_on_its_gpu(device: CudaDevice, path: Path) -> None:
    stream = device.stream()
    engine = OnnxRuntimeCudaEngine(path, stream, gpu=1)
    assert engine._session.settings == {
        "CUDAExecutionProvider": {
            "device_id": "1",
            "user_compute_stream": str(stream.handle),
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
        }
    }
    stage = Stage(device, engine, seed=3)  # the stand-in compares the GPU of each buffer
    stage.enqueue()
    stage.main.synchronize()
    np.testing.assert_allclose(stage.logits.array, stage.expected(path), rtol=0, atol=1e-4)


def test_stages_of_other_weights_have_other_engines_of_tensorrt(
    device: CudaDevice, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    model = onnx.load(path)
    weights = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    places = [tmp_path / name / path.name for name in ("same", "trained")]
    for place, content in zip(places, (path.read_bytes(), model.SerializeToString()), strict=True):
        place.parent.mkdir()
        place.write_bytes(content)
    folders = []
    for one in (path, *places):
        with one.open("rb") as file:
            engine = OnnxRuntimeCudaEngine(one, device.stream(), file=file.fileno(), tensorrt=True)
        settings = engine._session.settings["TensorrtExecutionProvider"]
        folders.append(Path(settings["trt_engine_cache_path"]))
        assert engine._session.source == one  # engines have names with that of the file
    assert folders[0] == folders[1] != folders[2]
    assert [one.stat().st_mode & 0o777 for one in folders] == [0o700] * 3


def test_images_in_flight_share_a_session_in_turns(
    device: CudaDevice, simulated: Simulation, path: Path
) -> None:
    engine = OnnxRuntimeCudaEngine(path, device.stream())
    stages = [Stage(device, engine, seed) for seed in (1, 2, 3)]
    for _ in range(2):
        for stage in stages:
            stage.enqueue()
    for stage in stages:
        stage.main.synchronize()
        np.testing.assert_array_equal(stage.logits.array, stage.expected(path))
    assert engine._session.runs == 6
    assert simulated.conflicts == []


def test_a_run_waits_for_nothing_and_takes_no_memory(
    device: CudaDevice, simulated: Simulation, path: Path
) -> None:
    stage = Stage(device, OnnxRuntimeCudaEngine(path, device.stream()), seed=1)
    stage.enqueue()
    stage.main.synchronize()
    start = len(simulated.calls)
    stage.run()
    names = set(simulated.calls_since(start))
    assert not {name for name in names if "Synchronize" in name or "Mem" in name}, names


def test_a_failing_run_leaves_no_work_on_the_memory_of_the_image(
    device: CudaDevice, simulated: Simulation, path: Path
) -> None:
    engine = OnnxRuntimeCudaEngine(path, device.stream())
    stage = Stage(device, engine, seed=1)
    session: Any = engine._session
    enqueue = session.run_with_iobinding

    def fails(*arguments: Any) -> None:
        enqueue(*arguments)
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : planted")

    session.run_with_iobinding = fails
    with pytest.raises(BackendError) as caught:
        stage.enqueue()
    assert str(caught.value) == f"ONNX Runtime failed (planted): {path}: run: foveate verify BUNDLE"
    stage.main.synchronize()
    assert [task.kind for task in simulated.streams.history[-1:]] == ["engine"]
    assert simulated.conflicts == []


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failure 2: out of memory ; GPU=0",
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4096",
    ],
)
def test_a_gpu_without_memory_is_told_as_such(device: CudaDevice, path: Path, text: str) -> None:
    engine = OnnxRuntimeCudaEngine(path, device.stream())
    stage = Stage(device, engine, seed=1)

    def fails(*_: Any) -> None:
        raise RuntimeError(text)

    engine._session.run_with_iobinding = fails
    with pytest.raises(OutOfMemoryError, match="there is not enough memory"):
        stage.run()
