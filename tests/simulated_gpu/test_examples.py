# SPDX-License-Identifier: Apache-2.0
"""The examples with arrays in the memory of a GPU, on the simulated driver."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.runtime.devices.opened import open_gpu
from tests.runtime.devices.test_interop import Packed
from tests.samples.kernel_compilers import require_compiler
from tests.samples.paths import ROOT
from tests.samples.plans import TENSORRT, write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

import foveate
from foveate.bundle import Bundle
from foveate.runtime import PipelineOptions
from foveate.runtime.devices import CpuDevice
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.loading import open_engines
from foveate.runtime.pipeline import Pipeline
from foveate.system import dlpack

OPTIONS = PipelineOptions(score_threshold=0.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = small_bundle(tmp_path_factory.mktemp("bundles") / "small")
    write_plans(bundle, image_sizes=((96, 64),))
    return bundle


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    image = cv2.GaussianBlur(noise, (9, 9), 3)
    cv2.circle(image, (48, 32), 25, (220, 60, 40), -1)
    assert cv2.imwrite(str(tmp_path / "photo.png"), image)
    return tmp_path / "photo.png"


@pytest.fixture
def simulation(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """A GPU on which `foveate.load` opens a small bundle."""
    require_compiler()
    simulation = Simulation(seed=0, run_kernels=True, capacity=1 << 28)

    def load(_: str, *, device: str) -> Pipeline:
        place = open_gpu(device)
        engines = open_tensorrt_engines(bundle, place, "tensorrt")
        return Pipeline(bundle, engines, device=place, options=OPTIONS)

    monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
    monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
    monkeypatch.setattr(foveate, "load", load)
    with connected(simulation):
        yield simulation
    assert simulation.conflicts == []
    assert set(simulation.live_bytes.values()) <= {0}


@contextmanager
def torch_on(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let PyTorch hold tensors of the GPU; its own library for CUDA needs a real one."""
    other = open_gpu("cuda")
    memory = simulation.memory

    def to(tensor: torch.Tensor, device: str, *, non_blocking: bool) -> Packed:
        assert (device, non_blocking) == ("cuda", True)
        image = Packed(other, tuple(tensor.shape))
        image.mirror.array[:] = tensor.numpy()
        image.mirror.send(image.stream)
        return image

    def from_dlpack(array: Any) -> torch.Tensor:
        assert array.__dlpack_device__() == (dlpack.CUDA, 0)
        found = dlpack.read(array.__dlpack__())
        assert memory.piece(found.address) is not None
        dtype = np.dtype(found.dtype)
        offset, size = memory.offset(found.address), int(np.prod(found.shape)) * dtype.itemsize
        assert offset is not None
        values = memory.data[offset : offset + size].view(dtype).reshape(found.shape)
        return torch.from_numpy(values)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", from_dlpack)
    yield
    other.close()


def expected(bundle: Bundle, photo: Path) -> Any:
    device = CpuDevice()
    engines = open_engines(bundle, device, threads=1)
    with Pipeline(bundle, engines, device=device, options=OPTIONS) as pipeline:
        return pipeline(photo)


def run(name: str, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, str(photo)])
    runpy.run_path(str(ROOT / name), run_name="__main__")


def test_pycuda_finds_what_the_cpu_finds(
    simulation: Simulation,
    bundle: Bundle,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pycuda.driver", reason="needs the package pycuda")
    want = expected(bundle, photo)
    run("examples/pycuda_on_device.py", photo, monkeypatch)
    name = want.class_names[want.labels[0]]
    assert capsys.readouterr().out.startswith(
        f"{name} {want.scores[0]:.2f} in {want.boxes[0].round().tolist()}, "
    )


def test_torch_finds_what_the_cpu_finds(
    simulation: Simulation,
    bundle: Bundle,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("cuda.core", reason="needs the package cuda-core")
    want = expected(bundle, photo)
    with torch_on(simulation, monkeypatch):
        run("examples/torch_on_device.py", photo, monkeypatch)
    sides = want.boxes[:, 2:] - want.boxes[:, :2]
    largest = int(sides.prod(axis=1).argmax())
    name = want.class_names[want.labels[largest]]
    assert capsys.readouterr().out.startswith(
        f"{name} {want.scores[largest]:.2f} in {want.boxes[largest].round().astype(int).tolist()}, "
    )
