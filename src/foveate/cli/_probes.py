# SPDX-License-Identifier: Apache-2.0
"""Trying what works on this machine. Each probe does the thing, or says how to get it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

_PATIENCE_S = 60


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a probe found: whether it works, details, and what to do if it does not."""

    name: str
    works: bool
    detail: str
    remedy: str = ""


def _onnxruntime() -> Finding:
    """Run the shipped bundle on a small image."""
    import numpy as np
    import onnxruntime

    from foveate.errors import FoveateError
    from foveate.runtime import load

    name, detail = "ONNX Runtime on the CPU", f"version {onnxruntime.__version__}"
    try:
        with load("mini", backend="onnxruntime") as pipeline:
            pipeline(np.zeros((64, 64, 3), np.uint8))
    except FoveateError as error:
        return Finding(name=name, works=False, detail=f"{detail}, {error}", remedy="")
    return Finding(name=name, works=True, detail=f"{detail}, ran the bundle mini")


def _onnxruntime_cuda() -> Finding:
    """Run the shipped bundle on CUDA."""
    import numpy as np
    import onnxruntime

    from foveate.bundle import shipped_bundles
    from foveate.errors import FoveateError
    from foveate.runtime import load

    name = "ONNX Runtime on CUDA"
    if not shipped_bundles():
        return Finding(name=name, works=False, detail="no bundle is shipped to try it with")
    # Its logger prints several lines a session before it raises what is reported below.
    onnxruntime.set_default_logger_severity(4)
    try:
        with load("mini", backend="onnxruntime-cuda") as pipeline:
            pipeline(np.zeros((64, 64, 3), np.uint8))
    except FoveateError as error:
        remedy = "needs an NVIDIA driver, CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]'"
        return Finding(name=name, works=False, detail=error.what, remedy=remedy)
    finally:
        onnxruntime.set_default_logger_severity(2)
    return Finding(name=name, works=True, detail="ran the bundle mini")


def _driver() -> Finding:
    """Ask the NVIDIA driver for its devices."""
    name, remedy = "NVIDIA driver", "install it from https://www.nvidia.com/drivers"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Finding(name=name, works=False, detail="not installed", remedy=remedy)
    count = ctypes.c_int()
    if (code := driver.cuInit(0)) or (code := driver.cuDeviceGetCount(ctypes.byref(count))):
        return Finding(name=name, works=False, detail=f"does not start (error {code})")
    return Finding(name=name, works=count.value > 0, detail=f"{count.value} devices")


def _module(name: str, module: str, install: str, body: str = "pass") -> Callable[[], Finding]:
    """Return a probe that imports a module in a process of its own, because some crash."""

    def probe() -> Finding:
        code = f"import {module} as m; {body}; print(getattr(m, '__version__', ''))"
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Finding(name=name, works=False, detail="does not answer")
        if done.returncode == 0:
            return Finding(name=name, works=True, detail=f"version {done.stdout.strip()}")
        missing = "ModuleNotFoundError" in done.stderr
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        detail = "not installed" if missing else last
        return Finding(name=name, works=False, detail=detail, remedy=f"pip install {install}")

    return probe


def _nvcc() -> Finding:
    """Ask the CUDA compiler for its version."""
    name, remedy = "nvcc", "install the CUDA toolkit, or: pip install nvidia-cuda-nvcc"
    path = shutil.which("nvcc")
    if path is None:
        return Finding(name=name, works=False, detail="not on the PATH", remedy=remedy)
    done = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    lines = [line for line in done.stdout.splitlines() if "release" in line]
    if done.returncode or not lines:
        return Finding(name=name, works=False, detail=f"{path} fails", remedy=remedy)
    return Finding(name=name, works=True, detail=lines[0].strip())


def _cuda() -> Finding:
    """Open the first GPU as a device."""
    from foveate.errors import FoveateError, MissingExtraError
    from foveate.runtime.devices.cuda import CudaDevice

    name = "cuda-core"
    try:
        device = CudaDevice()
    except FoveateError as error:
        missing = isinstance(error, MissingExtraError)
        remedy = error.remedy if missing else "needs an NVIDIA GPU and its driver"
        return Finding(name=name, works=False, detail=error.what, remedy=remedy or "")
    device.close()
    detail = f"opened a GPU of {device.architecture}; the pipeline does not use it yet"
    return Finding(name=name, works=True, detail=detail)


PROBES: dict[str, Callable[[], Finding]] = {
    "onnxruntime": _onnxruntime,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "driver": _driver,
    "tensorrt": _module("TensorRT", "tensorrt", "'foveate[tensorrt]'", "m.Logger()"),
    "tensorrt-rtx": _module("TensorRT for RTX", "tensorrt_rtx", "'foveate[rtx]'", "m.Logger()"),
    "cuda": _cuda,
    "pycuda": _module("PyCUDA", "pycuda.driver", "'foveate[pycuda]'", "m.init()"),
    "nvcc": _nvcc,
}
