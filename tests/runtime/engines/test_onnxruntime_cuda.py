# SPDX-License-Identifier: Apache-2.0
"""The engine of ONNX Runtime for CUDA: what it refuses, in a line, on machines where it cannot run."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

import foveate
from foveate.errors import BackendError, BundleError, OptionError
from foveate.runtime.devices.cuda_streams import CudaStream
from foveate.runtime.engines import onnxruntime_cuda
from foveate.runtime.engines.onnxruntime_cuda import CUDA, OnnxRuntimeCudaEngine
from foveate.system.gpu import Gpu, current_gpu

GPU = Gpu(name="NVIDIA L4", arch="sm_89", driver="13.0")
PACKAGES = "run: pip install 'onnxruntime-gpu[cuda,cudnn]'"

pytestmark = pytest.mark.skipif(
    CUDA not in onnxruntime.get_available_providers(),
    reason="needs an ONNX Runtime with the CUDA provider",
)


class UnusedStream(CudaStream):
    """A stream that nothing is enqueued on."""

    handle = 4096

    def __init__(self) -> None:
        """Make no stream."""


def refusal(bundle: Path, *, tensorrt: bool = False, name: str = "refine.onnx") -> str:
    with pytest.raises((BackendError, BundleError)) as caught:
        OnnxRuntimeCudaEngine(bundle / name, UnusedStream(), tensorrt=tensorrt)
    return str(caught.value)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver describe a GPU, and let cuDNN be there."""
    monkeypatch.setattr(onnxruntime_cuda, "current_gpu", lambda: GPU)
    monkeypatch.setattr(onnxruntime_cuda, "check_cudnn", lambda _: None)


def test_a_wheel_without_the_provider_is_refused(
    contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert refusal(contrast_bundle) == (
        "this ONNX Runtime has no CUDAExecutionProvider: run: pip install onnxruntime-gpu"
    )


def test_a_machine_without_a_driver_is_refused(
    contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "current_gpu", lambda: None)
    assert refusal(contrast_bundle) == (
        "CUDAExecutionProvider needs an NVIDIA GPU, and no driver of one works here: install the "
        "driver, or use --device cpu; `foveate doctor` shows what works here"
    )


def test_a_driver_of_an_older_cuda_is_refused_with_both_versions(
    contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Gpu(name="NVIDIA L4", arch="sm_89", driver="12.4")
    monkeypatch.setattr(onnxruntime_cuda, "current_gpu", lambda: old)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    assert refusal(contrast_bundle) == (
        "this ONNX Runtime is for CUDA 13.0, and the driver of NVIDIA L4 supports CUDA 12.4 at most: "
        "update the driver, or install an onnxruntime-gpu for that version of CUDA"
    )


@pytest.mark.skipif(current_gpu() is not None, reason="needs a machine without a GPU")
@pytest.mark.usefixtures("gpu")
def test_a_provider_that_falls_back_to_the_cpu_is_refused(
    contrast_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Here, where its libraries are missing, the real one does so."""
    cuda = str(onnxruntime.cuda_version).split(".", maxsplit=1)[0]
    assert refusal(contrast_bundle) == (
        "CUDAExecutionProvider does not start here (although this ONNX Runtime has it): it needs the "
        f"libraries of CUDA {cuda} and cuDNN 9: {PACKAGES}"
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(current_gpu() is not None, reason="needs a machine without a GPU")
@pytest.mark.usefixtures("gpu")
def test_a_missing_tensorrt_is_told(
    contrast_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    text = refusal(contrast_bundle, tensorrt=True)
    assert text.startswith("TensorrtExecutionProvider does not start here (")
    assert "TensorRT 10 for CUDA" in text
    assert text.endswith(f"{PACKAGES}, or use --backend onnxruntime")


@pytest.mark.usefixtures("gpu")
def test_a_cache_that_cannot_be_written_is_told(
    contrast_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "file"))
    text = refusal(contrast_bundle, tensorrt=True)
    assert text.startswith("the cache of engines cannot be used (")
    assert text.endswith("set FOVEATE_CACHE to a directory that you may write")


@pytest.mark.usefixtures("gpu")
def test_a_damaged_stage_is_told_as_on_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    assert "ONNX Runtime cannot load a stage (" in refusal(tmp_path, name="broken.onnx")


def test_the_backend_with_tensorrt_needs_a_gpu(contrast_bundle: Path) -> None:
    with pytest.raises(OptionError) as caught:
        foveate.load(contrast_bundle, device="cpu", backend="onnxruntime-tensorrt")
    assert str(caught.value) == (
        "the backend 'onnxruntime-tensorrt' runs on a GPU, found the device 'cpu': use --device cuda, "
        "or --backend onnxruntime"
    )
