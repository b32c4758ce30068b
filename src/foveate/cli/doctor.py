# SPDX-License-Identifier: Apache-2.0
"""``foveate doctor``: check which backends work on this machine, by running them."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._console import print_line
from foveate.cli._options import given_options, pin_bundle
from foveate.errors import BackendError, FoveateError, OptionError

_TIMEOUT_S = 60


def command(
    context: typer.Context,
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
        return
    if ignored := given_options(context, ("bundle", "output")):
        what = f"foveate doctor without --gpu-selftest takes no {', '.join(ignored)}"
        raise OptionError(what, remedy="pass --gpu-selftest too, or omit the rest")
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
    missing = set()
    for name, probe in PROBES.items():
        try:
            print_line(f"works    {name}: {probe()}")
        except FoveateError as error:
            missing.add(name)
            print_line(f"missing  {name}: {error.what}")
            if error.remedy:
                print_line(f"         {error.remedy}")
    if _REQUIRED in missing:
        raise typer.Exit(1)


def _onnxruntime() -> str:
    """Run the shipped bundle on the CPU."""
    import onnxruntime

    return _run_mini("cpu", f"version {onnxruntime.__version__}, ")


def _onnxruntime_cuda() -> str:
    """Run the shipped bundle on CUDA."""
    import onnxruntime

    # Its logger prints several lines per session before it raises the error reported below.
    onnxruntime.set_default_logger_severity(4)
    try:
        remedy = "needs an NVIDIA driver: pip install 'foveate[cuda]' 'onnxruntime-gpu[cuda,cudnn]'"
        return _run_mini("cuda", remedy=remedy)
    finally:
        onnxruntime.set_default_logger_severity(2)


def _run_mini(device: str, detail: str = "", remedy: str | None = None) -> str:
    """Run the shipped bundle on a small image."""
    import numpy as np

    from foveate.bundle import shipped_bundles
    from foveate.runtime import load

    if "mini" not in shipped_bundles():
        raise BackendError(f"{detail}no bundle is shipped to run on it")
    try:
        with load("mini", device=device, backend="onnxruntime") as pipeline:
            pipeline(np.zeros((64, 64, 3), np.uint8))
    except FoveateError as error:
        raise BackendError(f"{detail}{error.what}", remedy=remedy) from error
    return f"{detail}ran the bundle mini"


def _driver() -> str:
    """Query the NVIDIA driver for its first GPU."""
    from foveate.system.gpu import current_gpu, driver_version

    version, gpu = driver_version(), current_gpu()
    if version is None:
        raise BackendError("not installed", remedy="install it from https://www.nvidia.com/drivers")
    detail = f"of CUDA {version[0]}.{version[1]}"
    if gpu is None:
        raise BackendError(f"{detail}, no GPU")
    return f"{detail}, {gpu.name} ({gpu.arch})"


def _module(module: str, install: str, body: str = "pass") -> Callable[[], str]:
    """Return a probe that imports a module in its own process, because some of them crash."""

    def probe() -> str:
        code = f"import {module} as m; {body}; print(getattr(m, '__version__', ''))"
        try:
            words = [sys.executable, "-c", code]
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"no answer within {_TIMEOUT_S} seconds") from error
        if done.returncode == 0:
            return f"version {done.stdout.strip()}"
        missing = "ModuleNotFoundError" in done.stderr  # otherwise its last line is the reason
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise BackendError("not installed" if missing else last, remedy=f"pip install {install}")

    return probe


def _nvcc() -> str:
    """Query the CUDA compiler for its version."""
    from foveate.kernels.plugins.build import require_nvcc

    try:
        return require_nvcc().version
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendError(f"does not run ({error})") from error


def _cuda() -> str:
    """Compile a kernel and run it on the first GPU, in a process of its own."""
    from importlib import metadata

    from foveate.selftest.supervision import run_step

    try:
        metadata.version("cuda-core")
        bindings = metadata.version("cuda-bindings")
    except metadata.PackageNotFoundError as error:
        raise BackendError("not installed", remedy="pip install 'foveate[cuda]'") from error
    checks = run_step("driver", "mini").checks
    for check in checks:
        if check.status != "passed":
            raise BackendError(f"{check.name}: {check.reason}")
    compiler = next(check.facts["compiler"] for check in checks if check.name == "compiler")
    return f"ran a kernel that {compiler} compiled, with cuda-bindings {bindings}"


def _video() -> str:
    """Write a video with OpenCV, and read it."""
    import tempfile

    import numpy as np

    from foveate.video import Frames, WebmWriter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.webm")
        writer = WebmWriter(path)
        writer.write(np.zeros((64, 64, 3), np.uint8), 0.0)
        writer.close()
        with Frames(path) as frames:
            count = len(list(frames))
    if count != 1:
        raise BackendError(f"wrote a frame of VP8 in WebM, and read {count}")
    return "wrote and read a frame of VP8 in WebM"


def _pyav() -> str:
    """Import PyAV, and look for encoders whose license is the GPL."""
    try:
        import av
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        detail = "not installed" if missing else f"does not start ({error})"
        raise BackendError(detail, remedy="pip install 'foveate[video]'") from error
    found = [one for one in ("x264", "x265") if f"lib{one}" in av.codecs_available]
    license_ = f"; it contains {' and '.join(found)}, whose license is the GPL" if found else ""
    return f"version {av.__version__}{license_}"


_REQUIRED = "ONNX Runtime on the CPU"  # the only backend that every machine must have
# Each returns details of what works, or raises FoveateError.
PROBES: dict[str, Callable[[], str]] = {
    _REQUIRED: _onnxruntime,
    "ONNX Runtime on CUDA": _onnxruntime_cuda,
    "NVIDIA driver": _driver,
    "TensorRT": _module("tensorrt", "'foveate[tensorrt]'", "m.Logger()"),
    "TensorRT for RTX": _module("tensorrt_rtx", "'foveate[rtx]'", "m.Logger()"),
    "cuda-core": _cuda,
    "PyCUDA": _module("pycuda.driver", "'foveate[pycuda]'", "m.init()"),
    "nvcc": _nvcc,
    "video with OpenCV": _video,
    "video with PyAV": _pyav,
}
