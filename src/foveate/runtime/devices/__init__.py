# SPDX-License-Identifier: Apache-2.0
"""Devices: memory, streams and launches. One file a device."""

from __future__ import annotations

from foveate.runtime.devices.device import Buffer, Device, Event, Stream
from foveate.runtime.devices.host import HostBuffer, HostDevice, HostStream

__all__ = ["Buffer", "Device", "Event", "HostBuffer", "HostDevice", "HostStream", "Stream"]
