# SPDX-License-Identifier: Apache-2.0
"""The GPU of this machine, as its driver describes it."""

import ctypes
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR of cuda.h


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU of this machine: its name, compute capability, and newest CUDA of its driver."""

    name: str
    arch: str
    driver: str


def current_gpu() -> Gpu | None:
    """Return the first GPU, or None on a machine without a working driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    if cuda.cuInit(0):
        return None
    device, driver = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    sides = (ctypes.c_int(), ctypes.c_int())
    # Each call returns 0 on success, so that the first failure ends the chain.
    failed = (
        cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(sides[0]), _MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(sides[1]), _MINOR, device)
        or cuda.cuDriverGetVersion(ctypes.byref(driver))
    )
    if failed:
        return None
    return Gpu(
        name=name.value.decode(),
        arch=f"sm_{sides[0].value}{sides[1].value}",
        driver=f"{driver.value // 1000}.{driver.value % 1000 // 10}",
    )
