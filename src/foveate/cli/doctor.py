# SPDX-License-Identifier: Apache-2.0
"""``foveate doctor``: check which backends work on this machine, by running them."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._console import print_line
from foveate.cli._options import pin_bundle

_TIMEOUT_S = 60


def command(
    *,
    gpu_selftest: Annotated[
        bool, typer.Option("--gpu-selftest", help="Test the GPU thoroughly, and write a report.")
    ] = False,
    bundle: Annotated[
        str,
        typer.Option(
            help="Bundle whose networks --gpu-selftest runs: a name or a path.", callback=pin_bundle
        ),
    ] = "mini",
    output: Annotated[Path, typer.Option(help="File for the report of --gpu-selftest.")] = Path(
        "foveate-selftest.json"
    ),
) -> None:
    """Check which backends work on this machine, by running them, and how to install the rest."""
    if gpu_selftest:
        _test_gpu(bundle, output)
    else:
        _check_backends()


def _test_gpu(bundle: str, output: Path) -> None:
    """Run the self-test, and write its report after each step."""
    from foveate.bundle import read_bundle
    from foveate.cli._files import check_outputs, write_result
    from foveate.selftest.supervision import report_of, run_steps

    check_outputs(output)
    read_bundle(bundle, lambda _: None)  # an error of it is not one of a step
    results = []
    for result in run_steps(bundle):
        results.append(result)
        print_line(f"{result.status:9}  {result.summary()}")
        for reason, names in result.reasons().items():
            print_line(f"           {', '.join(names)}: {reason}")
        write_result(output, json.dumps(report_of(results), indent=1) + "\n")
    print_line(f"The report is {output}; attach it to a bug report.")
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


def _check_backends() -> None:
    from foveate import __version__
    from foveate.bundle import shipped_bundles

    python = f"Python {platform.python_version()} on {platform.platform()}"
    print_line(f"foveate {__version__}, {python}")
    print_line(f"shipped bundles: {', '.join(shipped_bundles()) or 'none'}")
    findings = {}
    for key, probe in PROBES.items():
        found = findings[key] = probe()
        word = "works  " if found.works else "missing"
        print_line(f"{word}  {found.name}: {found.detail}")
        if found.remedy and not found.works:
            print_line(f"         {found.remedy}")
    if not findings["onnxruntime"].works:  # the only backend that every machine must have
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of a probe.

    Args:
        name: Name of the backend or tool.
        works: Whether it works.
        detail: Its version, or why it does not work.
        remedy: How to install it, or what it needs.
    """

    name: str
    works: bool
    detail: str
    remedy: str = ""


def _onnxruntime() -> Finding:
    """Run the shipped bundle on the CPU."""
    import onnxruntime

    version = f"version {onnxruntime.__version__}, "
    return _run_mini("ONNX Runtime on the CPU", "cpu", version)


def _onnxruntime_cuda() -> Finding:
    """Run the shipped bundle on CUDA."""
    import onnxruntime

    # Its logger prints several lines per session before it raises the error reported below.
    onnxruntime.set_default_logger_severity(4)
    try:
        remedy = "needs an NVIDIA driver: pip install 'foveate[cuda]' 'onnxruntime-gpu[cuda,cudnn]'"
        return _run_mini("ONNX Runtime on CUDA", "cuda", remedy=remedy)
    finally:
        onnxruntime.set_default_logger_severity(2)


def _run_mini(name: str, device: str, detail: str = "", remedy: str = "") -> Finding:
    """Run the shipped bundle on a small image."""
    import numpy as np

    from foveate.bundle import shipped_bundles
    from foveate.errors import FoveateError
    from foveate.runtime import load

    if "mini" not in shipped_bundles():
        return Finding(name=name, works=False, detail=f"{detail}no bundle is shipped to run on it")
    try:
        with load("mini", device=device, backend="onnxruntime") as pipeline:
            pipeline(np.zeros((64, 64, 3), np.uint8))
    except FoveateError as error:
        return Finding(name=name, works=False, detail=f"{detail}{error.what}", remedy=remedy)
    return Finding(name=name, works=True, detail=f"{detail}ran the bundle mini")


def _driver() -> Finding:
    """Query the NVIDIA driver for its first GPU."""
    from foveate.system.gpu import current_gpu, driver_version

    name, remedy = "NVIDIA driver", "install it from https://www.nvidia.com/drivers"
    version, gpu = driver_version(), current_gpu()
    if version is None:
        return Finding(name=name, works=False, detail="not installed", remedy=remedy)
    detail = f"of CUDA {version[0]}.{version[1]}, "
    if gpu is None:
        return Finding(name=name, works=False, detail=f"{detail}no GPU")
    return Finding(name=name, works=True, detail=f"{detail}{gpu.name} ({gpu.arch})")


def _module(name: str, module: str, install: str, body: str = "pass") -> Callable[[], Finding]:
    """Return a probe that imports a module in its own process, because some of them crash."""

    def probe() -> Finding:
        code = f"import {module} as m; {body}; print(getattr(m, '__version__', ''))"
        try:
            words = [sys.executable, "-c", code]
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Finding(name=name, works=False, detail=f"no answer within {_TIMEOUT_S} seconds")
        if done.returncode == 0:
            return Finding(name=name, works=True, detail=f"version {done.stdout.strip()}")
        missing = "ModuleNotFoundError" in done.stderr  # otherwise its last line is the reason
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        detail = "not installed" if missing else last
        return Finding(name=name, works=False, detail=detail, remedy=f"pip install {install}")

    return probe


def _nvcc() -> Finding:
    """Query the CUDA compiler for its version."""
    from foveate.errors import BackendError
    from foveate.kernels.plugins.build import require_nvcc

    try:
        return Finding(name="nvcc", works=True, detail=require_nvcc().version)
    except BackendError as error:
        return Finding(name="nvcc", works=False, detail=error.what, remedy=error.remedy or "")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name="nvcc", works=False, detail=f"does not run ({error})")


def _cuda() -> Finding:
    """Compile a kernel and run it on the first GPU, in a process of its own."""
    from importlib import metadata

    from foveate.selftest.supervision import run_step

    name = "cuda-core"
    try:
        metadata.version(name)
        bindings = metadata.version("cuda-bindings")
    except metadata.PackageNotFoundError:
        remedy = "pip install 'foveate[cuda]'"
        return Finding(name=name, works=False, detail="not installed", remedy=remedy)
    checks = run_step("driver", "mini").checks
    for check in checks:
        if check.status != "passed":
            return Finding(name=name, works=False, detail=f"{check.name}: {check.reason}")
    compiler = next(check.facts["compiler"] for check in checks if check.name == "compiler")
    detail = f"ran a kernel that {compiler} compiled, with cuda-bindings {bindings}"
    return Finding(name=name, works=True, detail=detail)


def _video() -> Finding:
    """Write a video with OpenCV, and read it."""
    import tempfile

    import numpy as np

    from foveate.errors import FoveateError
    from foveate.video import Frames, WebmWriter

    name = "video with OpenCV"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.webm")
        writer = WebmWriter(path)
        try:
            writer.write(np.zeros((64, 64, 3), np.uint8), 0.0)
            writer.close()
            with Frames(path) as frames:
                count = len(list(frames))
        except FoveateError as error:
            return Finding(name=name, works=False, detail=error.what)
    return Finding(name=name, works=count == 1, detail="wrote and read a frame of VP8 in WebM")


def _pyav() -> Finding:
    """Import PyAV, and look for encoders whose license is the GPL."""
    name, remedy = "video with PyAV", "pip install 'foveate[video]'"
    try:
        import av
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        detail = "not installed" if missing else f"does not start ({error})"
        return Finding(name=name, works=False, detail=detail, remedy=remedy)
    found = [one for one in ("x264", "x265") if f"lib{one}" in av.codecs_available]
    detail = f"version {av.__version__}"
    if found:
        detail += f"; it contains {' and '.join(found)}, whose license is the GPL"
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
    "video": _video,
    "pyav": _pyav,
}
