# SPDX-License-Identifier: Apache-2.0
"""Calls of the driver through cuda-bindings, whose results a test sees as they are."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class Raw:
    """The driver, with the primary context current in this thread."""

    def __init__(self) -> None:
        self._driver: Any = importlib.import_module("cuda.bindings.driver")
        self("cuInit", 0)
        self("cuCtxSetCurrent", self("cuDevicePrimaryCtxRetain", 0))

    def status(self, name: str, *arguments: Any) -> int:
        """Make a call; return its status."""
        return int(getattr(self._driver, name)(*arguments)[0])

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Make a call that must succeed; return its result."""
        status, *results = getattr(self._driver, name)(*arguments)
        assert int(status) == 0, f"{name}: {status}"
        return results[0] if len(results) == 1 else tuple(results)

    def stream(self, *, blocking: bool = False) -> Any:
        """Return a new stream."""
        return self("cuStreamCreate", 0 if blocking else 1)

    def memory(self, size: int = 1024) -> int:
        """Return the address of memory of the device."""
        return int(self("cuMemAlloc", size))

    def pinned(self, size: int = 1024) -> Bytes:
        """Return page-locked memory, which nobody frees."""
        return host_bytes(int(self("cuMemHostAlloc", size, 0)), size)

    def fill(self, address: int, value: int, size: int, stream: Any) -> None:
        """Enqueue a fill."""
        self("cuMemsetD8Async", address, value, size, stream)

    def copy(self, target: int | Bytes, source: int | Bytes, size: int, stream: Any) -> None:
        """Enqueue a copy."""
        self("cuMemcpyAsync", address_of(target), address_of(source), size, stream)

    def order(self, before: Any, after: Any) -> None:
        """Let a stream wait for what was enqueued on another."""
        event = self("cuEventCreate", 2)
        self("cuEventRecord", event, before)
        self("cuStreamWaitEvent", after, event, 0)

    def begin(self, stream: Any) -> None:
        """Begin a capture."""
        self("cuStreamBeginCapture", stream, 1)

    def end(self, stream: Any) -> Any:
        """End a capture that must be valid; return what can be launched."""
        return self("cuGraphInstantiate", self("cuStreamEndCapture", stream), 0)


def address_of(place: int | Bytes) -> int:
    """Return an address."""
    return place if isinstance(place, int) else place.ctypes.data


def host_bytes(address: int, size: int) -> Bytes:
    """Return memory of the CPU as an array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
