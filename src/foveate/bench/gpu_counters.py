# SPDX-License-Identifier: Apache-2.0
"""Counters of the GPU, read through NVML, the management library of the driver."""

from __future__ import annotations

import ctypes
from typing import Any

from foveate.bench.machine import GpuState, throttle_reasons

_GRAPHICS_TEMPERATURE, _SM_CLOCK = 0, 1  # of nvml.h
_MOST_PROCESSES = 64


class _Process(ctypes.Structure):
    """A process on the GPU: ``nvmlProcessInfo_t``."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class GpuCounters:
    """The counters of the first CUDA GPU.

    Args:
        nvml: The library, as ``ctypes`` loads it.
        bus: Address of the GPU on the bus, since NVML counts GPUs in another order.
    """

    def __init__(self, nvml: Any, bus: bytes) -> None:
        self._nvml = nvml
        self._device = ctypes.c_void_p()
        self._found = not nvml.nvmlInit_v2() and not nvml.nvmlDeviceGetHandleByPciBusId_v2(
            bus, ctypes.byref(self._device)
        )

    def joules(self) -> float | None:
        """Return the energy since the driver was loaded; None if the GPU does not count it."""
        millijoules = self._number(ctypes.c_ulonglong, "nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def state(self) -> GpuState:
        """Return the state of the GPU."""
        bits = self._number(ctypes.c_ulonglong, "nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # its name before driver 535
            bits = self._number(ctypes.c_ulonglong, "nvmlDeviceGetCurrentClocksThrottleReasons")
        celsius = self._number(
            ctypes.c_uint, "nvmlDeviceGetTemperature", ctypes.c_int(_GRAPHICS_TEMPERATURE)
        )
        clock = ctypes.c_int(_SM_CLOCK)
        return GpuState(
            name=self._text("nvmlDeviceGetName", self._device) or "GPU",
            driver=self._text("nvmlSystemGetDriverVersion"),
            others=self._others(),
            clock_mhz=self._number(ctypes.c_uint, "nvmlDeviceGetClockInfo", clock),
            highest_mhz=self._number(ctypes.c_uint, "nvmlDeviceGetMaxClockInfo", clock),
            celsius=celsius,
            throttled=None if bits is None else throttle_reasons(bits),
        )

    def _others(self) -> int | None:
        """Return the number of other processes that compute on the GPU.

        This process, which does too, cannot be recognized: in a container, the driver still lists
        the process IDs of the host.
        """
        count, found = ctypes.c_uint(_MOST_PROCESSES), (_Process * _MOST_PROCESSES)()
        failed = not self._found or self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(
            self._device, ctypes.byref(count), found
        )
        return None if failed else max(count.value - 1, 0)

    def _number(self, kind: Any, function: str, *arguments: Any) -> int | None:
        value = kind()
        call = getattr(self._nvml, function, None)  # new drivers lose deprecated functions
        if not self._found or call is None:
            return None
        failed = call(self._device, *arguments, ctypes.byref(value))
        return None if failed else int(value.value)

    def _text(self, function: str, *arguments: Any) -> str | None:
        text = ctypes.create_string_buffer(96)
        failed = not self._found or getattr(self._nvml, function)(*arguments, text, len(text))
        return None if failed else text.value.decode()


def open_gpu_counters() -> GpuCounters | None:
    """Return the counters of the first GPU, or None on a machine without a driver."""
    bus = ctypes.create_string_buffer(32)
    device = ctypes.c_int()
    try:
        cuda, nvml = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetPCIBusId(bus, len(bus), device)
    )
    return None if failed else GpuCounters(nvml, bus.value)
