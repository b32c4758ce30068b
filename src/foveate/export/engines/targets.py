# SPDX-License-Identifier: Apache-2.0
"""The libraries that compile: which is installed, and all that differs between them.

NOTE: This is the only place that knows versions. What TensorRT 10.13 and later, 11 and TensorRT for
RTX share is written once, in the worker.

========================  ====================  ====================  ====================
what                      TensorRT 10           TensorRT 11           TensorRT for RTX
========================  ====================  ====================  ====================
typing                    strong, by a flag     strong, flag ignored  strong, flag ignored
GPUs that it builds for   the one of this host  the one of this host  any of its enumeration
plugins                   yes                   yes                   none; aborts on one
timing cache              yes                   yes                   deprecated, does nothing
hardware compatibility    yes                   yes                   unsupported
float32 GEMM on sm_75     yes                   yes                   refused, or silently zero
========================  ====================  ====================  ====================
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from foveate.errors import BackendError, MissingExtraError, OptionError


@dataclass(frozen=True, kw_only=True)
class Target:
    """One of the libraries.

    Attributes:
        name: on the command line, and of the folder of its engines.
        module: to import.
        extra: of the package that brings it.
        oldest: version that we support.
        wheels: distributions that may hold it, with the version of CUDA that each is made for.
        trtexec: its own command.
        cross: whether it builds for GPUs that are not here.
        plugins: whether it takes plugins, a timing cache and compatibility between GPUs.
    """

    name: str
    module: str
    extra: str
    oldest: tuple[int, int]
    wheels: dict[str, str]
    trtexec: str
    cross: bool
    plugins: bool


TARGETS = {
    "tensorrt": Target(
        name="tensorrt",
        module="tensorrt",
        extra="tensorrt",
        oldest=(10, 13),
        wheels={"tensorrt-cu13": "13", "tensorrt-cu12": "12"},
        trtexec="trtexec",
        cross=False,
        plugins=True,
    ),
    "tensorrt-rtx": Target(
        name="tensorrt-rtx",
        module="tensorrt_rtx",
        extra="rtx",
        oldest=(1, 4),
        wheels={"tensorrt-rtx-cu13": "13", "tensorrt-rtx-cu12": "12", "tensorrt-rtx": "12"},
        trtexec="tensorrt_rtx",
        cross=True,
        plugins=False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The version of a library here, and of the CUDA that it is made for."""

    target: Target
    version: str
    cuda: str


def find_installed(name: str) -> Installed:
    """Find the library of a target, without importing it where its wheel tells all.

    Raises:
        OptionError: There is no such target.
        MissingExtraError: It is not installed.
        BackendError: It is too old.
    """
    if name not in TARGETS:
        raise OptionError(f"there is no target {name!r}", remedy=f"use {', '.join(TARGETS)}")
    target = TARGETS[name]
    if importlib.util.find_spec(target.module) is None:
        raise MissingExtraError(target.module, target.extra)
    found = _from_wheels(target) or _from_module(target)
    major, minor = (int(part) for part in found.version.split(".")[:2])
    if (major, minor) < target.oldest:
        oldest = ".".join(map(str, target.oldest))
        raise BackendError(
            f"{target.module} {oldest} or later is needed, found {found.version}",
            remedy=f"run: pip install --upgrade 'foveate[{target.extra}]'",
        )
    return found


def _from_wheels(target: Target) -> Installed | None:
    for wheel, cuda in target.wheels.items():
        try:
            version = metadata.version(wheel)
        except metadata.PackageNotFoundError:
            continue
        return Installed(target=target, version=version, cuda=cuda)
    return None


def _from_module(target: Target) -> Installed:
    """Ask the module itself: a system package, or a wheel that names no version of CUDA."""
    module: Any = importlib.import_module(target.module)
    return Installed(target=target, version=str(module.__version__), cuda="unknown")
