# SPDX-License-Identifier: Apache-2.0
"""The engines of PyTorch for CUDA on the simulated driver, with stand-ins for its names of CUDA."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.samples.images import write_small_cat
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.torch_on_arena import CPU, TorchOnArena

from foveate.bundle import Bundle
from foveate.errors import BackendError, OutOfMemoryError
from foveate.export.execution import torch_cuda
from foveate.export.execution.stages import cascade_stages
from foveate.export.execution.torch_cuda import TorchCudaEngine, open_torch_engines, torch_device
from foveate.export.execution.torch_engines import torch_engines, torch_functions
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.runtime import Pipeline, PipelineOptions
from foveate.runtime.devices import CpuDevice
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_streams import cuda_stream
from foveate.system.gpu import Gpu

FLOAT = np.dtype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("torch") / "small")


@pytest.fixture
def on_arena(simulated: Simulation, monkeypatch: pytest.MonkeyPatch) -> TorchOnArena:
    return TorchOnArena(simulated, monkeypatch)


class Refining:
    """The stage refine for four windows on a simulated GPU.

    Args:
        device: The GPU.
        engine: Engine of the stage.
        seed: Seed of the inputs.
    """

    def __init__(self, device: CudaDevice, engine: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.main = device.stream()
        self.inputs = {}
        for spec in engine.inputs:
            self.inputs[spec.name] = device.mirror((4, *spec.shape[1:]), FLOAT)
            self.inputs[spec.name].array[...] = rng.random((4, *spec.shape[1:]))
        self.outputs = {
            spec.name: device.mirror((4, *spec.shape[1:]), FLOAT) for spec in engine.outputs
        }
        bound = {name: one.buffer for name, one in (self.inputs | self.outputs).items()}
        self.run = engine.bind(bound, self.main)

    def enqueue(self) -> None:
        for one in self.inputs.values():
            one.send(self.main)
        self.run()
        for one in self.outputs.values():
            one.fetch(self.main)


def refining(bundle: Bundle, device: CudaDevice) -> TorchCudaEngine:
    cascade = cascade_from_bundle(bundle)
    (stage,) = (one for one in cascade_stages(cascade) if one.name == "refine")
    return TorchCudaEngine(stage, bundle.manifest.stages["refine"], device.stream(), CPU)


def test_images_in_flight_share_a_module_in_turns(
    bundle: Bundle, simulated: Simulation, on_arena: TorchOnArena
) -> None:
    device = CudaDevice()
    engine = refining(bundle, device)
    runs = [Refining(device, engine, seed) for seed in (1, 2)]
    for one in runs:
        one.enqueue()
    expected = torch_functions(cascade_from_bundle(bundle))["refine"]
    for one in runs:
        one.main.synchronize()
        given = {name: mirror.array for name, mirror in one.inputs.items()}
        for name, found in expected(given).items():
            np.testing.assert_array_equal(one.outputs[name].array, found)
    assert on_arena.entered == 2 * [cuda_stream(engine._stream).handle]
    assert simulated.conflicts == []


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            OutOfMemoryError,
            (
                "PyTorch has too little memory of the GPU for the stage 'refine': use a smaller image, "
                "top_k, max_side or max_in_flight"
            ),
        ),
        (
            RuntimeError("CUDA error: invalid resource handle\nCUDA kernel errors might be late"),
            BackendError,
            (
                "PyTorch failed in the stage 'refine' (CUDA error: invalid resource handle): run: foveate "
                "doctor"
            ),
        ),
    ],
)
@pytest.mark.usefixtures("on_arena")
def test_an_error_of_pytorch_is_one_of_ours(
    bundle: Bundle, error: Exception, kind: type[Exception], text: str
) -> None:
    device = CudaDevice()
    engine = refining(bundle, device)

    def fails(_: Any) -> Any:
        raise error

    engine._call = fails
    with pytest.raises(kind) as caught:
        Refining(device, engine, seed=1).enqueue()
    assert str(caught.value) == text


def test_a_pipeline_of_pytorch_finds_the_same_on_a_gpu(
    bundle: Bundle, simulated: Simulation, on_arena: TorchOnArena, tmp_path: Path
) -> None:
    image = write_small_cat(tmp_path / "cat.png")
    options = PipelineOptions(score_threshold=0.0)
    with Pipeline(
        bundle, torch_engines(cascade_from_bundle(bundle), bundle), options=options
    ) as pipeline:
        expected = pipeline(image)
    device = CudaDevice(code="ptx")
    engines = open_torch_engines(cascade_from_bundle(bundle), bundle, device)
    with Pipeline(bundle, engines, device=device, options=options) as pipeline:
        found = pipeline(image)
    assert len(expected) == len(found) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)
    assert simulated.conflicts == []
    assert on_arena.entered
    assert simulated.live_bytes == {"device": 0, "pinned": 0}


def test_engines_for_the_cpu_are_those_of_the_cpu(bundle: Bundle) -> None:
    engines = open_torch_engines(cascade_from_bundle(bundle), bundle, CpuDevice())
    assert {type(one).__name__ for one in engines.values()} == {"FunctionEngine"}


@pytest.mark.parametrize(
    ("cuda", "gpu", "devices", "text"),
    [
        (
            None,
            None,
            0,
            (
                "PyTorch 9.9 is built without CUDA, and a GPU needs one with it: install one as "
                "https://pytorch.org/get-started shows, or use --device cpu"
            ),
        ),
        (
            "13.0",
            None,
            0,
            (
                "PyTorch needs an NVIDIA GPU, and no driver of one works here: install the driver, or "
                "use --device cpu; `foveate doctor` shows what works here"
            ),
        ),
        (
            "13.0",
            Gpu(name="NVIDIA L4", arch="sm_89", driver="12.4"),
            0,
            (
                "PyTorch 9.9 is for CUDA 13.0, and the driver of NVIDIA L4 supports CUDA 12.4 at most: "
                "update the driver, or install a PyTorch for that version of CUDA, or use --device cpu"
            ),
        ),
        (
            "12.8",
            Gpu(name="NVIDIA L4", arch="sm_89", driver="13.0"),
            1,
            (
                "PyTorch 9.9 finds no GPU 1, but 1 GPUs: see if python -c 'import torch; "
                "torch.zeros(1).cuda()' works, or use --device cpu"
            ),
        ),
    ],
)
def test_a_pytorch_that_cannot_use_the_gpu_is_told_with_versions(
    cuda: str | None, gpu: Gpu | None, devices: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "9.9")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch_cuda, "current_gpu", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with pytest.raises(BackendError) as caught:
        torch_device(1)
    assert str(caught.value) == text


def test_the_names_of_cuda_exist_in_this_pytorch() -> None:
    names = ("empty_cache", "is_available", "device_count", "OutOfMemoryError", "stream")
    for name in (*names, "synchronize"):
        assert callable(getattr(torch.cuda, name)), name
    stream = inspect.signature(torch.cuda.ExternalStream.__new__).parameters
    assert list(stream)[1:3] == ["stream_ptr", "device"]
    flags = inspect.signature(torch.backends.cudnn.flags).parameters
    assert {"enabled", "allow_tf32"} <= set(flags)
    assert issubclass(torch.cuda.OutOfMemoryError, RuntimeError)
    assert "cuda" in vars(torch.version)


def test_float32_is_multiplied_in_float32() -> None:
    assert torch.backends.cudnn.allow_tf32  # as PyTorch has it by default
    with torch_cuda._full_precision():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32
