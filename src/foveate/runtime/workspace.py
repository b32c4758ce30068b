# SPDX-License-Identifier: Apache-2.0
"""The memory of one image in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from foveate.runtime.devices import Buffer, Device

BYTE, INT, LONG = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64)
FLOAT = np.dtype(np.float32)


class Workspace:
    """Named buffers that are used again for every image, and grow with the largest one.

    The memory belongs to the workspace. A name stands for one piece of memory: a buffer is valid
    until its name is asked for again.

    Args:
        device: Where the memory lies.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: dict[str, Buffer] = {}

    def buffer(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Buffer:
        """Return the buffer of this name with a shape and dtype, its content undefined."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = self._memory.get(name)
        if memory is None or memory.shape[0] < size:
            self._memory.pop(name, None)  # released before the larger piece is made
            del memory
            memory = self._memory[name] = self._device.allocate((size,), BYTE)
        return memory.view(shape, dtype)
