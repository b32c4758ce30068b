# SPDX-License-Identifier: Apache-2.0
"""The GPU of this machine, as its driver describes it."""

import ctypes
from dataclasses import dataclass

from foveate.errors import BackendError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR of cuda.h


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU of this machine: its name, compute capability, and newest CUDA of its driver."""

    name: str
    arch: str
    driver: str


def driver_version() -> tuple[int, int] | None:
    """Return the newest CUDA that the driver supports, or None on a machine without a driver."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def check_bindings(bindings: str) -> None:
    """Check that the package cuda-bindings is not made for a later major version than the driver.

    Args:
        bindings: Version of the package.

    Raises:
        BackendError: It is.
    """
    driver = driver_version()
    major = int(bindings.partition(".")[0])
    if driver is not None and driver[0] < major:
        update = f"update the driver to one of CUDA {major}"
        raise BackendError(
            f"cuda-bindings {bindings} needs a driver of CUDA {major}, found one of CUDA "
            f"{driver[0]}.{driver[1]}",
            remedy=f"run: pip install 'foveate[cuda12]', or {update}"
            if driver[0] == 12
            else update,
        )


def current_gpu() -> Gpu | None:
    """Return the first GPU, or None on a machine without a working driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    if cuda.cuInit(0):
        return None
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    sides = (ctypes.c_int(), ctypes.c_int())
    # Each call returns 0 on success, so that the first failure ends the chain.
    failed = (
        cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(sides[0]), _MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(sides[1]), _MINOR, device)
    )
    driver = driver_version()
    if failed or driver is None:
        return None
    return Gpu(
        name=name.value.decode(),
        arch=f"sm_{sides[0].value}{sides[1].value}",
        driver=".".join(map(str, driver)),
    )
