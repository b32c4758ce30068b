# SPDX-License-Identifier: Apache-2.0
"""Devices: memory, streams and programs. There is one file per device."""

from foveate.runtime.devices.cpu import CpuBuffer, CpuDevice, CpuStream
from foveate.runtime.devices.device import Buffer, Device, Event, Mirror, Program, Stream

__all__ = [
    "Buffer",
    "CpuBuffer",
    "CpuDevice",
    "CpuStream",
    "Device",
    "Event",
    "Mirror",
    "Program",
    "Stream",
]
