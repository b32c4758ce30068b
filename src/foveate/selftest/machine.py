# SPDX-License-Identifier: Apache-2.0
"""The steps of the self-test that concern the driver, the compiler and compute-sanitizer."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np

from foveate.kernels.build import FOLDER, compile_kernels
from foveate.kernels.compilers import choose_compiler
from foveate.runtime.devices.cpu import CpuDevice
from foveate.runtime.devices.cuda import CudaDevice
from foveate.selftest.cases import CASES
from foveate.selftest.checks import Checks, NotTriedError, Outcome, WrongResultError
from foveate.selftest.running import PreparedCall, largest_difference
from foveate.system.gpu import current_gpu


@cache
def gpu() -> CudaDevice:
    """Return the first GPU; all checks of a process share it."""
    return CudaDevice()


def driver_checks(_: str) -> Checks:
    """Return checks that the driver finds a GPU, that the packages fit it, and that kernels run."""
    return {"driver": _driver, "device": _device, "compiler": _compiler, "launch": _launch}


def _driver() -> Outcome:
    found = current_gpu()
    if found is None:
        raise WrongResultError("no NVIDIA driver, or it finds no GPU")
    return Outcome(facts={"gpu": found.name, "architecture": found.arch, "driver": found.driver})


def _device() -> Outcome:
    free, total = gpu().memory()
    return Outcome(facts={"free_bytes": free, "total_bytes": total})


def _compiler() -> Outcome:
    choice = choose_compiler("cubin", gpu().architecture)
    facts = {"form": choice.form, "architecture": choice.architecture}
    return Outcome(facts={"compiler": choice.compiler.version, **facts})


def _launch() -> Outcome:
    call = CASES["nms"](np.random.default_rng(0), 1)
    found, expected = PreparedCall(gpu(), call).run(), PreparedCall(CpuDevice(), call).run()
    if largest_difference(found, expected):
        raise WrongResultError("a kernel gave wrong numbers")
    return Outcome()


def kernel_checks(_: str) -> Checks:
    """Return checks that compile and load each file of kernels."""
    sources = [path for path in sorted(FOLDER.rglob("*.cuh")) if b"__global__" in path.read_bytes()]
    names = [path.relative_to(FOLDER).as_posix() for path in sources]
    return {name: partial(_load, name) for name in names}


def _load(source: str) -> Outcome:
    compiled = compile_kernels(Path(source), form="cubin", architecture=gpu().architecture)
    code = compiled.path.read_bytes() + b"\0"  # PTX is a text that ends with a zero
    gpu().context.use()
    library = gpu().context.call("cuLibraryLoadData", code, [], [], 0, [], [], 0)
    gpu().context.call("cuLibraryUnload", library)
    return Outcome(facts={"form": compiled.form, "bytes": len(code)})


def sanitizer_checks(bundle: str) -> Checks:
    """Return runs of all operations under compute-sanitizer."""
    return {tool: partial(_sanitize, bundle, tool) for tool in ("memcheck", "racecheck")}


def _sanitize(bundle: str, tool: str) -> Outcome:
    program = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if program is None:
        raise NotTriedError("compute-sanitizer is not installed")
    with tempfile.TemporaryDirectory() as folder:
        record = str(Path(folder) / "record")
        command = [program, "--tool", tool, "--error-exitcode", "1"]
        # cuda-bindings looks up functions that the driver does not have, and each would count as an
        # error. What our own calls return is checked anyway.
        command += ["--report-api-errors", "no"]
        command += [sys.executable, "-m", "foveate.selftest", "operations", record, bundle]
        done = subprocess.run(command, check=False)
    if done.returncode:
        raise WrongResultError(
            f"compute-sanitizer ended with status {done.returncode}; see the log"
        )
    return Outcome()
