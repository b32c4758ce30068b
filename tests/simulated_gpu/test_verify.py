# SPDX-License-Identifier: Apache-2.0
"""``foveate verify --device cuda`` on the simulated driver, with stand-ins for all three libraries."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.samples.images import write_small_cat
from tests.samples.plans import TENSORRT, write_plans
from tests.samples.verified_bundles import add_to_weight, small_bundle, with_change
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.sessions import simulate_sessions
from tests.simulated_gpu.tensorrt import SimulatedTensorRT
from tests.simulated_gpu.torch_on_arena import TorchOnArena

from foveate.bundle import Bundle
from foveate.cli import invoke
from foveate.errors import BackendError
from foveate.export.checks import bundle_report, on_gpu
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import tensorrt as tensorrt_engines

STAGES = ("propose", "refine", "features", "classify")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the path of an image of 96 x 72."""
    return write_small_cat(tmp_path / "cat.png")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a bundle with plans for any image, for images of 96 x 72, and for others."""
    bundle = small_bundle(tmp_path / "small")
    write_plans(bundle)
    write_plans(bundle, image_sizes=((96, 72),))
    write_plans(bundle, image_sizes=((48, 96),), stages=("features",))
    return bundle


@pytest.fixture
def machine(simulated: Simulation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """A machine with a GPU on which PyTorch, ONNX Runtime and TensorRT run."""
    TorchOnArena(simulated, monkeypatch)
    simulate_sessions(monkeypatch, simulated)
    trt = SimulatedTensorRT(simulated)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    for module in (tensorrt_engines, bundle_report):
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
    monkeypatch.setattr(on_gpu, "open_device", lambda _: CudaDevice(code="ptx"))
    yield simulated
    gc.collect()
    assert trt.destroyed_early == []


def verify(bundle: Bundle, image: Path, capsys: Any, *options: str) -> tuple[int, list[str], str]:
    words = ["verify", str(bundle.root), "--device", "cuda", "--image", str(image), *options]
    status = invoke([*words, "--score-threshold", "0.01"])
    found = capsys.readouterr()
    return status, found.out.splitlines(), found.err


def test_every_plan_and_every_library_is_compared_with_pytorch_and_the_cpu(
    bundle: Bundle, image: Path, machine: Simulation, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines, errors = verify(bundle, image, capsys)
    assert status == 0, errors
    file = bundle.root.parent / "small-verify-gpu.json"
    records = json.loads(file.read_text())["records"]
    libraries = ["PyTorch", "ONNX Runtime", "TensorRT"]
    assert [(one["backend"].split(" on ")[0], one["reference"]) for one in records] == [
        (library, against)
        for library in libraries
        for against in ("PyTorch on the CPU", "ONNX Runtime on the CPU")
    ]
    ran = [list(one["images"][0]["stages"]) for one in records]
    plans = ["propose", "propose-96x72", "refine", "refine-k8"]
    plans += ["features", "features-96x72", "classify", "classify-96x72-k8"]
    assert [sorted(one) for one in ran] == 4 * [sorted(STAGES)] + 2 * [sorted(plans)]
    assert (
        "engines/tensorrt/features-48x96.plan was not run: it accepts none of these images" in lines
    )
    assert lines[-1] == "TensorRT on Simulated GPU agrees with ONNX Runtime on the CPU"
    assert machine.conflicts == []
    assert machine.live_bytes == {"device": 0, "pinned": 0}


def test_a_plan_that_differs_is_named(
    bundle: Bundle,
    image: Path,
    tmp_path: Path,
    machine: Simulation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del machine
    monkeypatch.setattr(on_gpu, "gpu_backends", lambda _: ["tensorrt"])
    change = add_to_weight("network.encode.weight_half", 0.5)
    damaged = with_change(bundle, tmp_path / "damaged", "refine", change)
    write_plans(damaged, image_sizes=((96, 72),))
    status, _, error = verify(damaged, image, capsys, "--reference", str(bundle.root))
    assert status == 1
    assert "the engine 'refine-k8' differs from the bundle 'small' on the CPU: its output" in error
    assert error.endswith(": run foveate verify --device cpu --bisect to find the layer\n")


def test_a_gpu_without_pytorch_is_compared_with_the_bundle_itself(
    bundle: Bundle,
    image: Path,
    machine: Simulation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del machine
    monkeypatch.delitem(sys.modules, "foveate.export.execution.torch_cuda", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    status, lines, error = verify(bundle, image, capsys, "--reference", str(bundle.root))
    assert status == 0, error
    assert lines[0] == (
        "PyTorch was not run: the module 'torch' is not installed: run: pip install "
        "'foveate[export]'"
    )
    records = json.loads((bundle.root.parent / "small-verify-gpu.json").read_text())["records"]
    found = [(one["backend"].split(" on ")[0], one["reference"]) for one in records]
    assert found == [(one, "ONNX Runtime on the CPU") for one in ("ONNX Runtime", "TensorRT")]


def test_libraries_that_are_missing_are_listed_and_the_others_compared(
    bundle: Bundle,
    image: Path,
    machine: Simulation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del machine
    reasons = {"torch": "PyTorch is built without CUDA", "tensorrt": "TensorRT is too old"}

    def opening(_bundle: Bundle, _device: Any, backend: str) -> Any:
        raise BackendError(reasons.get(backend, "no provider"), remedy="update it")

    monkeypatch.setattr(on_gpu, "_open_engines", opening)
    status, lines, error = verify(bundle, image, capsys)
    assert status == 1
    assert lines == [
        "PyTorch was not run: PyTorch is built without CUDA: update it",
        "ONNX Runtime was not run: no provider: update it",
        "TensorRT was not run: TensorRT is too old: update it",
    ]
    assert "no backend runs on this GPU: see the reasons above" in error
