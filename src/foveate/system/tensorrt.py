# SPDX-License-Identifier: Apache-2.0
"""The libraries that compile and run engines: TensorRT and TensorRT for RTX."""

import contextlib
import importlib
import importlib.util
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from foveate.errors import BackendError, MissingExtraError, OptionError
from foveate.system.gpu import driver_version

# All differences between the libraries and their versions are here; shared code is in the worker.
#
# ========================  ====================  ====================  ====================
# difference                TensorRT 10           TensorRT 11           TensorRT for RTX
# ========================  ====================  ====================  ====================
# typing                    strong, by a flag     strong, flag ignored  strong, flag ignored
# GPUs that it builds for   that of this host     that of this host     any of its enumeration
# plugins                   yes                   yes                   none; aborts on one
# timing cache              yes                   yes                   deprecated, does nothing
# hardware compatibility    yes                   yes                   unsupported
# float32 GEMM on sm_75     yes                   yes                   refused, or silently zero
# ========================  ====================  ====================  ====================


@dataclass(frozen=True, kw_only=True)
class Target:
    """A library that compiles engines.

    Args:
        name: Name on the command line, and of the directory of its engines.
        module: Module to import.
        extra: Extra of the package that installs it.
        oldest: Oldest supported version.
        wheels: Distributions that may contain it, with the version of CUDA that each is made for.
        trtexec: Name of its own command.
        cross: Whether it builds for GPUs of other machines.
        plugins: Whether it accepts plugins, a timing cache and compatibility between GPUs.
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

# It runs engines that were compiled for later releases too, and compiles none.
_LEAN = replace(
    TARGETS["tensorrt"],
    module="tensorrt_lean",
    wheels={"tensorrt-lean-cu13": "13", "tensorrt-lean-cu12": "12"},
)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A library that is installed, its version, and the version of CUDA that it is made for."""

    target: Target
    version: str
    cuda: str


def find_target(name: str) -> Target:
    """Return the target of this name.

    Raises:
        OptionError: There is no such target.
    """
    if name not in TARGETS:
        raise OptionError(f"there is no target {name!r}", remedy=f"use {', '.join(TARGETS)}")
    return TARGETS[name]


def find_installed(name: str) -> Installed:
    """Return the library of a target, without importing it if its wheel has all the information.

    Raises:
        OptionError: There is no such target.
        MissingExtraError: It is not installed.
        BackendError: It is too old.
    """
    target = find_target(name)
    if not _is_installed(target):
        raise MissingExtraError(target.module, target.extra)
    return _checked(target)


def find_runtime(name: str) -> Installed:
    """Return the library that runs the engines of a target.

    That is TensorRT's lean runtime if it is installed and TensorRT itself is not.

    Raises:
        OptionError: There is no such target.
        MissingExtraError: It is not installed.
        BackendError: It is too old.
    """
    if name == _LEAN.name and not _is_installed(TARGETS[name]) and _is_installed(_LEAN):
        return _checked(_LEAN)
    return find_installed(name)


def _is_installed(target: Target) -> bool:
    return importlib.util.find_spec(target.module) is not None


def _checked(target: Target) -> Installed:
    found = _read_version(target)
    major, minor = (int(part) for part in found.version.split(".")[:2])
    if (major, minor) < target.oldest:
        oldest = ".".join(map(str, target.oldest))
        raise BackendError(
            f"{target.module} {oldest} or later is needed, found {found.version}",
            remedy=f"run: pip install --upgrade 'foveate[{target.extra}]'",
        )
    return found


def _read_version(target: Target) -> Installed:
    for wheel, cuda in target.wheels.items():
        with contextlib.suppress(metadata.PackageNotFoundError):
            return Installed(target=target, version=metadata.version(wheel), cuda=cuda)
    # It is a system package or an unknown wheel.
    version = str(import_library(target).__version__)
    return Installed(target=target, version=version, cuda="unknown")


def check_driver(installed: Installed) -> None:
    """Check that a library is not made for a later major version of CUDA than that of the driver.

    On such a driver, the library itself ends the process.

    Raises:
        BackendError: It is.
    """
    driver, target = driver_version(), installed.target
    if driver is None or not installed.cuda.isdigit() or int(installed.cuda) <= driver[0]:
        return
    others = [wheel for wheel, cuda in target.wheels.items() if cuda == str(driver[0])]
    instead = f", or install {others[0]} in place of it" if others else ""
    raise BackendError(
        f"{target.module} {installed.version} is for CUDA {installed.cuda}, and the driver supports "
        f"CUDA {driver[0]}.{driver[1]} at most",
        remedy=f"update the driver{instead}",
    )


def import_library(target: Target) -> Any:
    """Import the module of a target.

    Raises:
        BackendError: It is installed but does not load, as without its shared libraries.
    """
    try:
        return importlib.import_module(target.module)
    except (ImportError, OSError) as error:
        what = f"the module {target.module!r} cannot be imported ({error})"
        remedy = f"run: pip install --force-reinstall 'foveate[{target.extra}]'"
        raise BackendError(what, remedy=remedy) from error
